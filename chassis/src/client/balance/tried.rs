//! Which endpoints the attempts of a call were sent to.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use http::Extensions;

use super::super::CallInfo;

/// How many are remembered; more attempts than that are no sensible setting.
const REMEMBERED: usize = 8;

/// The endpoints that the attempts of one call were sent to, so that the next attempt goes to another one when there is one.
///
/// Retries and hedges put one into the request's extensions before the first attempt, and the same into each later one; the
/// balancer fills it in. A clone is the same list. It remembers the last eight.
#[derive(Debug, Clone, Default)]
pub struct Tried(Arc<Inner>);

#[derive(Default)]
struct Inner {
    numbers: [AtomicU64; REMEMBERED],
    /// The balancer that the call went through.
    others: OnceLock<Arc<dyn Others>>,
}

/// Knows the endpoints that a call may still go to.
pub(crate) trait Others: Send + Sync {
    /// Whether an endpoint is available that is not in the list.
    fn has_untried(&self, tried: &Tried) -> bool;
}

impl Tried {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Those of the call whose request has these extensions.
    pub(in crate::client) fn of(extensions: &Extensions) -> Option<&Self> {
        let of_call = extensions.get::<CallInfo>().and_then(CallInfo::tried);
        of_call.or_else(|| extensions.get::<Self>())
    }

    /// Who is to be asked for other endpoints. Only the first to say it is.
    pub(crate) fn ask(&self, others: impl FnOnce() -> Arc<dyn Others>) {
        self.0.others.get_or_init(others);
    }

    /// Whether another attempt would find an available endpoint that was not tried yet. It looks at each endpoint.
    #[must_use]
    pub fn has_untried(&self) -> bool {
        self.0.others.get().is_some_and(|others| others.has_untried(self))
    }

    /// Number 0 is nobody's.
    pub(super) fn add(&self, number: u64) {
        // Attempts of one call that pick at the same moment may write over each other: then one endpoint is forgotten.
        let free = self.0.numbers.iter().find(|slot| slot.load(Relaxed) == 0);
        free.unwrap_or(&self.0.numbers[number as usize % REMEMBERED]).store(number, Relaxed);
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.0.numbers.iter().any(|slot| slot.load(Relaxed) == number)
    }

    /// Whether an attempt was made.
    pub(super) fn is_empty(&self) -> bool {
        self.0.numbers.iter().all(|slot| slot.load(Relaxed) == 0)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tried").field(&self.numbers).finish()
    }
}
