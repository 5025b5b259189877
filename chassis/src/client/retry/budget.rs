//! The budget: how many retries and hedges a destination may get for the calls that it gets.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::config::RetryConfig;

/// How long a call counts towards the budget: 10 s, as Finagle's and Linkerd's budgets have it.
pub const BUDGET_TTL: Duration = Duration::from_secs(10);
/// The window moves by the second: ten slots, as Finagle's and tower's.
const SLOTS: usize = 10;

/// What retries and hedges of one destination share. A clone is the same budget. See the [module](super) for the rule.
#[derive(Clone)]
pub struct Budget(Arc<Inner>);

struct Inner {
    origin: Instant,
    /// Bits of an `f64`.
    ratio: AtomicU64,
    per_second: AtomicU32,
    calls: [Slot; SLOTS],
    spent: [Slot; SLOTS],
    withdrawn: AtomicU64,
    refused: AtomicU64,
}

/// A second and what was counted in it: 32 bits each, in one word, so that no lock is needed.
#[derive(Default)]
struct Slot(AtomicU64);

impl Slot {
    /// Counts, and gives the second that it was counted in.
    fn add(&self, second: u32, count: u32) -> u32 {
        let mut word = self.0.load(Relaxed);
        while second_of(word) < second {
            match self.0.compare_exchange_weak(word, u64::from(second) << 32 | u64::from(count), Relaxed, Relaxed) {
                Ok(_) => return second,
                Err(now) => word = now,
            }
        }
        // A slot that moved on in between takes the count into its new second, a moment later than it was.
        second_of(self.0.fetch_add(u64::from(count), Relaxed))
    }

    /// Takes a count back, unless the second has left the window.
    fn take_back(&self, second: u32, count: u32) {
        let _ = self.0.fetch_update(Relaxed, Relaxed, |word| {
            (second_of(word) == second).then(|| word.saturating_sub(u64::from(count)))
        });
    }

    /// What was counted, if its second is still in the window that ends with this one.
    fn within(&self, second: u32) -> u64 {
        let word = self.0.load(Relaxed);
        if second.saturating_sub(second_of(word)) < SLOTS as u32 { word & u64::from(u32::MAX) } else { 0 }
    }
}

const fn second_of(word: u64) -> u32 {
    (word >> 32) as u32
}

/// What a budget has come to.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct BudgetCounts {
    /// Calls of the last ten seconds.
    pub calls: u64,
    /// What retries and hedges of the last ten seconds have cost.
    pub spent: u64,
    /// What is left for more.
    pub left: f64,
    /// Retries and hedges that were paid since the start.
    pub withdrawn: u64,
    /// Retries and hedges that were not made since the start, because the budget was spent.
    pub refused: u64,
}

impl Budget {
    /// With the ratio and the minimum of these settings.
    #[must_use]
    pub fn new(config: &RetryConfig, now: Instant) -> Self {
        let budget = Self(Arc::new(Inner {
            origin: now,
            ratio: AtomicU64::new(0),
            per_second: AtomicU32::new(0),
            calls: Default::default(),
            spent: Default::default(),
            withdrawn: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }));
        budget.configure(config);
        budget
    }

    /// Other numbers from now on. What was counted stays.
    pub fn configure(&self, config: &RetryConfig) {
        self.0.ratio.store(config.budget_ratio.max(0.0).to_bits(), Relaxed);
        self.0.per_second.store(config.budget_min, Relaxed);
    }

    /// A call is made. Retries and hedges are no calls.
    pub fn deposit(&self, now: Instant) {
        let second = self.second(now);
        self.0.calls[slot(second)].add(second, 1);
    }

    /// Pays for a retry or a hedge, if the budget allows it.
    #[must_use]
    pub fn withdraw(&self, now: Instant, cost: u32) -> bool {
        let second = self.second(now);
        let limit = self.limit(second);
        let fits = |spent: u64| spent as f64 <= limit;
        if fits(self.spent(second) + u64::from(cost)) {
            let slot = &self.0.spent[slot(second)];
            let counted = slot.add(second, cost);
            // Others may have paid in between: paid first and looked at afterwards, the limit holds for all.
            if fits(self.spent(second)) {
                self.0.withdrawn.fetch_add(1, Relaxed);
                return true;
            }
            slot.take_back(counted, cost);
        }
        self.0.refused.fetch_add(1, Relaxed);
        false
    }

    /// What the budget has come to, for metrics.
    #[must_use]
    pub fn counts(&self, now: Instant) -> BudgetCounts {
        let second = self.second(now);
        let spent = self.spent(second);
        BudgetCounts {
            calls: self.calls(second),
            spent,
            left: (self.limit(second) - spent as f64).max(0.0),
            withdrawn: self.0.withdrawn.load(Relaxed),
            refused: self.0.refused.load(Relaxed),
        }
    }

    /// The larger of the two shares: their sum, as Finagle has it, would let a busy client go beyond the ratio.
    fn limit(&self, second: u32) -> f64 {
        // So that 5 × 0.2 is 1, whatever the rounding.
        const ROUNDING: f64 = 1e-6;
        let by_ratio = f64::from_bits(self.0.ratio.load(Relaxed)) * self.calls(second) as f64;
        let minimum = f64::from(self.0.per_second.load(Relaxed)) * BUDGET_TTL.as_secs_f64();
        by_ratio.max(minimum) + ROUNDING
    }

    fn calls(&self, second: u32) -> u64 {
        self.0.calls.iter().map(|slot| slot.within(second)).sum()
    }

    fn spent(&self, second: u32) -> u64 {
        self.0.spent.iter().map(|slot| slot.within(second)).sum()
    }

    fn second(&self, now: Instant) -> u32 {
        u32::try_from(now.saturating_duration_since(self.0.origin).as_secs()).unwrap_or(u32::MAX)
    }
}

const fn slot(second: u32) -> usize {
    second as usize % SLOTS
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("ratio", &f64::from_bits(self.0.ratio.load(Relaxed)))
            .field("per_second", &self.0.per_second)
            .field("withdrawn", &self.0.withdrawn)
            .field("refused", &self.0.refused)
            .finish()
    }
}
