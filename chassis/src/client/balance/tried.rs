//! Which endpoints the attempts of a call were sent to.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// How many are remembered; more attempts than that are no sensible setting.
const REMEMBERED: usize = 8;

/// The endpoints that the attempts of one call were sent to, so that the next attempt goes to another one when there is one.
///
/// Retries and hedges put one into the request's extensions before the first attempt, and the same into each later one; the
/// balancer fills it in. A clone is the same list. It remembers the last eight.
#[derive(Debug, Clone, Default)]
pub struct Tried(Arc<[AtomicU64; REMEMBERED]>);

impl Tried {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number 0 is nobody's.
    pub(super) fn add(&self, number: u64) {
        // Attempts of one call that pick at the same moment may write over each other: then one endpoint is forgotten.
        let free = self.0.iter().find(|slot| slot.load(Relaxed) == 0);
        free.unwrap_or(&self.0[number as usize % REMEMBERED]).store(number, Relaxed);
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.0.iter().any(|slot| slot.load(Relaxed) == number)
    }

    /// Whether an attempt was made.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|slot| slot.load(Relaxed) == 0)
    }
}
