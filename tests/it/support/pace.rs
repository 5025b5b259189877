//! Time on a machine that does other work as well: one limit for hangs, and a unit that is measured.
//!
//! No test may depend on the speed of the machine. In this order:
//!
//! 1. Count: requests, attempts, questions, polls.
//! 2. Make the wrong behaviour wait longer than [`PATIENCE`], by a setting: the test then needs no bound of its own.
//! 3. Bound the time by [`Pace`], which measures how long a piece of work takes while the test runs.

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::time::timeout;

/// How long a test waits for what should come at once. Chosen: only a hang takes as long, also where twenty processes share two
/// cores, and a hang still ends before a CI job does.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Units that a wait may take beside the time that it is allowed: the steps of processes and threads on the way. Chosen: half a
/// second on an idle machine, where one unit is about 5 ms, and still far below the waits that these tests tell apart.
const SLACK: u32 = 100;

/// Units that are enough for real work on loopback: a request, its handler, its answer. Chosen.
const WORK: u32 = 20;

/// Rounds of one piece of work: about 5 ms without optimisation on a machine of 2024. Longer than a scheduler's slice (3 ms on
/// Linux), so that a unit feels the competition for the cores.
const ROUNDS: u64 = 250_000;

/// The rest between two pieces of work, so that the measurement takes at most a fifth of one core.
const REST: Duration = Duration::from_millis(20);

/// Pieces of work that one measurement needs at least.
const SAMPLES: u32 = 5;

/// A measurement of the machine, from [`Pace::measure`] until it is dropped.
#[derive(Debug)]
pub struct Pace {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    measured: Mutex<Measured>,
    more: Condvar,
}

#[derive(Debug, Default, Clone, Copy)]
struct Measured {
    count: u32,
    time: Duration,
}

impl Pace {
    /// Begins to measure on a thread of its own.
    pub fn measure() -> Self {
        let shared = Arc::new(Shared::default());
        let working = Arc::clone(&shared);
        thread::spawn(move || working.work());
        Self { shared }
    }

    /// The mean time of one piece of work so far, its wake-up included.
    pub fn unit(&self) -> Duration {
        let measured = self.shared.measured.lock().unwrap();
        let measured = self.shared.more.wait_while(measured, |measured| measured.count < SAMPLES).unwrap();
        measured.time / measured.count
    }

    /// This time, and a hundred units.
    pub fn most(&self, time: Duration) -> Duration {
        time + SLACK * self.unit()
    }

    /// At least this time, and a hundred units where they are longer: for a setting that limits real work.
    pub fn at_least(&self, time: Duration) -> Duration {
        time.max(SLACK * self.unit())
    }

    /// Waits for what should come within this time. Gives it with the time that it took.
    ///
    /// # Panics
    /// When it took longer than this time and a hundred units.
    pub async fn within<T>(&self, what: &str, time: Duration, it: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let come = timeout(PATIENCE, it).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"));
        let (took, most) = (began.elapsed(), self.most(time));
        assert!(took <= most, "{what}: took {took:?}, expected {time:?}, at most {most:?} on this machine");
        come
    }
}

/// A limit that real work keeps on this machine, and that a test can wait for: twenty units, at least 50 ms.
pub fn brief() -> Duration {
    (WORK * Pace::measure().unit()).max(Duration::from_millis(50))
}

/// A time as a setting says it.
pub fn setting(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    #[allow(clippy::disallowed_methods, reason = "a thread of its own; how late it wakes up is what it measures")]
    fn work(&self) {
        while !self.over.load(Ordering::Relaxed) {
            let began = Instant::now();
            thread::sleep(REST);
            std::hint::black_box((0..ROUNDS).fold(1_u64, |sum, round| sum.rotate_left(5) ^ round));
            let took = began.elapsed().saturating_sub(REST);
            let mut measured = self.measured.lock().unwrap();
            measured.count += 1;
            measured.time += took;
            self.more.notify_all();
        }
    }
}
