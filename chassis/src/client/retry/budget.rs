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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn config(ratio: f64, minimum: u32) -> RetryConfig {
        RetryConfig { budget_ratio: ratio, budget_min: minimum, ..RetryConfig::default() }
    }

    fn budget(ratio: f64, minimum: u32) -> (Budget, Instant) {
        let now = Instant::now();
        (Budget::new(&config(ratio, minimum), now), now)
    }

    /// How many retries it pays for at once.
    fn drained(budget: &Budget, now: Instant) -> u32 {
        (0..).take_while(|_| budget.withdraw(now, 1)).count() as u32
    }

    #[test]
    fn a_retry_costs_what_five_calls_pay_in() {
        let (budget, now) = budget(0.2, 0);
        for _ in 0..4 {
            budget.deposit(now);
        }
        assert!(!budget.withdraw(now, 1), "four calls are not enough");
        budget.deposit(now);
        assert!(budget.withdraw(now, 1));
        assert!(!budget.withdraw(now, 1), "one retry for five calls");
        assert_eq!((budget.counts(now).withdrawn, budget.counts(now).refused), (1, 2));
    }

    #[test]
    fn a_ratio_whose_inverse_is_no_integer_is_kept_exactly() {
        let (budget, now) = budget(0.3, 0);
        for _ in 0..1000 {
            budget.deposit(now);
        }
        assert_eq!(drained(&budget, now), 300);
    }

    #[test]
    fn a_retry_after_a_time_out_is_paid_twice() {
        let (budget, now) = budget(0.2, 0);
        for _ in 0..15 {
            budget.deposit(now);
        }
        assert!(budget.withdraw(now, 2));
        assert!(!budget.withdraw(now, 2), "only one unit is left");
        assert!(budget.withdraw(now, 1));
    }

    #[test]
    fn the_minimum_is_there_without_a_call_and_comes_back_after_ten_seconds() {
        let (budget, now) = budget(0.2, 10);
        assert_eq!(drained(&budget, now), 100);
        assert_eq!(drained(&budget, now + 9 * SECOND), 0);
        assert_eq!(drained(&budget, now + 10 * SECOND), 100);
    }

    #[test]
    fn the_minimum_is_not_added_to_the_share_of_a_busy_client() {
        let (budget, now) = budget(0.2, 10);
        for _ in 0..1000 {
            budget.deposit(now);
        }
        assert_eq!(drained(&budget, now), 200);
    }

    #[test]
    fn what_was_paid_in_counts_for_ten_seconds() {
        let (budget, now) = budget(0.2, 0);
        for _ in 0..50 {
            budget.deposit(now);
        }
        assert_eq!(budget.counts(now + 9 * SECOND).left.round(), 10.0);
        assert_eq!(drained(&budget, now + 10 * SECOND), 0);
        assert_eq!(drained(&budget, now + 3600 * SECOND), 0, "nor after a long pause");
    }

    #[test]
    fn other_numbers_count_at_once_for_what_is_there() {
        let (budget, now) = budget(0.0, 0);
        for _ in 0..100 {
            budget.deposit(now);
        }
        assert_eq!(drained(&budget, now), 0, "with neither ratio nor minimum there is no retry");
        budget.configure(&config(0.5, 0));
        assert_eq!(drained(&budget, now), 50);
        budget.configure(&config(0.1, 0));
        assert!(!budget.withdraw(now, 1), "what was spent stays spent");
    }

    #[test]
    fn threads_together_spend_no_more_than_one_would() {
        let (budget, now) = budget(0.2, 0);
        for _ in 0..5000 {
            budget.deposit(now);
        }
        let paid: u32 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| drained(&budget, now))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(paid <= 1000, "{paid}");
        assert_eq!(paid + drained(&budget, now), 1000, "what two refused each other is still there");
    }

    proptest! {
        /// Whatever comes when: the sum of all retries never passes the ratio of all calls.
        #[test]
        fn amplification_stays_within_the_ratio(
            ratio in 0.01f64..2.0, events in prop::collection::vec((0u64..3000, 0u32..4, 1u32..3), 1..600),
        ) {
            let (budget, mut now) = budget(ratio, 0);
            let (mut calls, mut spent) = (0u32, 0u32);
            for (millis, deposits, cost) in events {
                now += Duration::from_millis(millis);
                for _ in 0..deposits {
                    budget.deposit(now);
                    calls += 1;
                }
                if budget.withdraw(now, cost) {
                    spent += cost;
                }
                prop_assert!(f64::from(spent) <= ratio * f64::from(calls) + 1e-3, "{spent} for {calls}");
            }
        }

    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// A storm: every attempt fails, and every call asks for two more. At any rate above the minimum the attempts are at
        /// most `1 + ratio` for each call, over whole windows.
        #[test]
        fn a_storm_is_not_amplified_beyond_the_ratio_at_any_rate_above_the_minimum(
            rate in 50u32..500, windows in 1u32..4,
        ) {
            let (budget, start) = budget(0.2, 10);
            let (mut calls, mut attempts) = (0u32, 0u32);
            while calls < rate * 10 * windows {
                let now = start + SECOND.mul_f64(f64::from(calls) / f64::from(rate));
                budget.deposit(now);
                calls += 1;
                attempts += 1 + u32::from(budget.withdraw(now, 1)) + u32::from(budget.withdraw(now, 1));
            }
            prop_assert!(f64::from(attempts) <= 1.2 * f64::from(calls) + 1e-3, "{attempts} for {calls}");
            prop_assert!(f64::from(attempts) >= 1.19 * f64::from(calls), "and it is used: {attempts} for {calls}");
        }

    }

    proptest! {
        /// The same as a list of what happened, looked through each time.
        #[test]
        fn it_pays_when_the_last_ten_seconds_allow_it(
            ratio in 0.0f64..2.0, minimum in 0u32..3,
            events in prop::collection::vec((0u64..2500, 0u32..6, 1u32..3), 1..200),
        ) {
            let (budget, start) = budget(ratio, minimum);
            let mut now = start;
            let (mut calls, mut spent) = (Vec::new(), Vec::new());
            for (millis, deposits, cost) in events {
                now += Duration::from_millis(millis);
                let second = (now - start).as_secs();
                for _ in 0..deposits {
                    budget.deposit(now);
                    calls.push((second, 1));
                }
                let sum = |list: &[(u64, u32)]| list.iter().filter(|(at, _)| at + 10 > second).map(|(_, n)| n).sum::<u32>();
                let limit = (ratio * f64::from(sum(&calls))).max(f64::from(minimum * 10));
                let expected = f64::from(sum(&spent) + cost) <= limit + 1e-6;
                prop_assert_eq!(budget.withdraw(now, cost), expected);
                if expected {
                    spent.push((second, cost));
                }
            }
        }
    }
}
