//! When the fallback of a typed client's call answers in its place, and how that stays visible.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::time::Instant;

use super::{Client, error::CallError, observe::LineBound};

/// How often fallbacks have answered for one destination. Only failed calls come here, so a lock does no harm.
#[derive(Debug, Default)]
pub(crate) struct Fallbacks {
    counts: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    lines: LineBound,
}

impl Fallbacks {
    fn count(&self, method: &'static str, cause: &'static str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((method, cause)).or_default() += 1;
    }

    /// The counts by method and cause.
    pub(crate) fn read(&self) -> Vec<(Arc<str>, &'static str, u64)> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|((method, cause), count)| (Arc::from(*method), *cause, *count)).collect()
    }
}

/// Whether the fallback is to answer in place of this failure. If so it is counted, and told in the log.
pub fn falls_back(client: &Client, error: &CallError, method: &'static str, fallback: &'static str) -> bool {
    if !error.may_fall_back() {
        return false;
    }
    let (destination, cause) = (client.0.base.authority.as_str(), error.word());
    let held_back = match client.0.transport.fallbacks() {
        Some(fallbacks) => {
            fallbacks.count(method, cause);
            let Some(held_back) = fallbacks.lines.admit(Instant::now()) else { return true };
            Some(held_back).filter(|lines| *lines > 0)
        }
        None => None,
    };
    tracing::warn!(destination, method, cause, fallback, %error, held_back, "a fallback answers for a call out");
    true
}
