//! How many calls there were lately, and how many of them were bad: a ring of time buckets, without a lock.
//!
//! Each bucket is one word, the tick that it counts for and its count, and is changed by compare-and-swap: a call is
//! counted for its own tick or, when that is more than a window ago, not at all. No thread can empty a bucket under
//! another's hands, and nobody has to empty old ones, since their tick tells their age. For the same reason a window is
//! made empty by moving the clock that the ticks are taken from a whole window ahead.
//!
//! The buckets exist once for each processor, so that threads seldom write to the same line of the cache.

use std::{
    cell::Cell,
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering, fence},
    },
    thread,
    time::Duration,
};

/// How finely the window slides: by a tenth of its length, as in Hystrix and Linkerd.
const BUCKETS: u32 = 10;

/// Chosen: with more threads than that on one endpoint two may share a line; a set of buckets takes 256 bytes.
const MAX_SHARDS: usize = 8;

const LENGTH_BITS: u32 = 16;
const SHIFT_MASK: u64 = u64::MAX >> LENGTH_BITS;
const COUNT_BITS: u32 = 32;

pub(super) struct Window {
    /// The length of a bucket in milliseconds (the lower 16 bits), and how far the ticks' clock is ahead (the others).
    /// One word, so that nobody takes a tick from the one's new value and the other's old.
    pace: AtomicU64,
    shards: Box<[Shard]>,
}

/// Two lines: processors fetch them in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Shard {
    total: Ring,
    failed: Ring,
    slow: Ring,
}

#[derive(Default)]
struct Ring([AtomicU64; BUCKETS as usize]);

/// What a window holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) total: u64,
    pub(super) failed: u64,
    pub(super) slow: u64,
}

impl Window {
    pub(super) fn new(length: Duration) -> Self {
        let shards = (0..shards()).map(|_| Shard::default()).collect();
        Self { pace: AtomicU64::new(bucket_length(length)), shards }
    }

    /// The tick of this time since the window was made. Ticks are compared by their distance, so they may wrap around.
    #[inline]
    pub(super) fn tick(&self, elapsed: Duration) -> u32 {
        let pace = self.pace.load(Ordering::Acquire);
        let (shift, length) = (pace >> LENGTH_BITS, pace & !(SHIFT_MASK << LENGTH_BITS));
        (((millis(elapsed) + shift) & SHIFT_MASK) / length.max(1)) as u32
    }

    /// Counts a call that ended at this tick.
    #[inline]
    pub(super) fn add(&self, tick: u32, failed: bool, slow: bool) {
        let shard = &self.shards[shard_of_thread() & (self.shards.len() - 1)];
        shard.total.add(tick);
        if failed {
            shard.failed.add(tick);
        }
        if slow {
            shard.slow.add(tick);
        }
    }

    /// What was counted in the window that ends with this tick, with the call of this thread that was counted last: of
    /// two threads that count and then look, one at least sees both calls.
    pub(super) fn sums(&self, tick: u32) -> Sums {
        fence(Ordering::SeqCst);
        let mut sums = Sums::default();
        for shard in &self.shards {
            // In the other order than they are counted, so that a share is never more than the whole.
            sums.slow += shard.slow.sum(tick);
            sums.failed += shard.failed.sum(tick);
            sums.total += shard.total.sum(tick);
        }
        sums
    }

    /// Makes it empty. For one thread at a time, as is [`set_length`](Self::set_length).
    pub(super) fn restart(&self) {
        let pace = self.pace.load(Ordering::Relaxed);
        let (shift, length) = (pace >> LENGTH_BITS, pace & !(SHIFT_MASK << LENGTH_BITS));
        let shift = (shift + u64::from(BUCKETS) * length) & SHIFT_MASK;
        self.pace.store((shift << LENGTH_BITS) | length, Ordering::Release);
    }

    /// From now on, a bucket is a tenth of this. What was counted stays for as many ticks as it would have stayed.
    pub(super) fn set_length(&self, length: Duration, elapsed: Duration) {
        let length = bucket_length(length);
        let pace = self.pace.load(Ordering::Relaxed);
        let (shift, before) = (pace >> LENGTH_BITS, pace & !(SHIFT_MASK << LENGTH_BITS));
        if length == before {
            return;
        }
        let tick = ((millis(elapsed) + shift) & SHIFT_MASK) / before.max(1);
        let shift = (tick * length).wrapping_sub(millis(elapsed)) & SHIFT_MASK;
        self.pace.store((shift << LENGTH_BITS) | length, Ordering::Release);
    }
}

impl Ring {
    fn add(&self, tick: u32) {
        let bucket = &self.0[(tick % BUCKETS) as usize];
        let mut found = bucket.load(Ordering::Relaxed);
        loop {
            let next = match tick.wrapping_sub((found >> COUNT_BITS) as u32).cast_signed() {
                0 if found as u32 == u32::MAX => return,
                0 => found + 1,
                1.. => (u64::from(tick) << COUNT_BITS) | 1,
                // The bucket counts for a later tick already: the call ended a window ago.
                ..0 => return,
            };
            match bucket.compare_exchange_weak(found, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(changed) => found = changed,
            }
        }
    }

    fn sum(&self, tick: u32) -> u64 {
        let words = self.0.iter().map(|bucket| bucket.load(Ordering::Acquire));
        words
            .filter(|word| tick.wrapping_sub((word >> COUNT_BITS) as u32) < BUCKETS)
            .map(|word| word as u32)
            .map(u64::from)
            .sum()
    }
}

fn millis(elapsed: Duration) -> u64 {
    elapsed.as_secs().wrapping_mul(1000).wrapping_add(u64::from(elapsed.subsec_millis()))
}

/// A tenth of the window in whole milliseconds; it has 16 bits: the longest window is 10 min.
fn bucket_length(window: Duration) -> u64 {
    (millis(window) / u64::from(BUCKETS)).clamp(1, u64::from(u16::MAX))
}

/// As many as there are processors, a power of two.
fn shards() -> usize {
    static SHARDS: OnceLock<usize> = OnceLock::new();
    *SHARDS.get_or_init(|| {
        let processors = thread::available_parallelism().map_or(MAX_SHARDS, usize::from);
        processors.next_power_of_two().min(MAX_SHARDS)
    })
}

/// Threads take turns.
fn shard_of_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    SHARD.with(|shard| {
        if shard.get() == usize::MAX {
            shard.set(NEXT.fetch_add(1, Ordering::Relaxed) & (usize::MAX >> 1));
        }
        shard.get()
    })
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window").field("shards", &self.shards.len()).finish_non_exhaustive()
    }
}
