//! A bulkhead: how many requests of one handler are served now, and how many may be.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

/// The concurrency limit of one handler.
#[derive(Debug)]
pub(crate) struct Bulkhead {
    handler: String,
    limit: u32,
    in_use: AtomicU32,
}

impl Bulkhead {
    /// `handler` names it in the metrics.
    pub(crate) fn new(handler: String, limit: u32) -> Self {
        Self { handler, limit, in_use: AtomicU32::new(0) }
    }

    pub(crate) fn handler(&self) -> &str {
        &self.handler
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    pub(crate) fn in_use(&self) -> u32 {
        self.in_use.load(Ordering::Relaxed)
    }

    /// A permit, or nothing when all are held. Never waits.
    pub(crate) fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        let below = |held| (held < self.limit).then_some(held + 1);
        self.in_use.fetch_update(Ordering::Acquire, Ordering::Relaxed, below).ok()?;
        Some(Permit { bulkhead: self.clone(), held: AtomicBool::new(true) })
    }
}

/// One request being served. Dropped, or released before, it makes room for the next.
#[derive(Debug)]
pub(crate) struct Permit {
    bulkhead: Arc<Bulkhead>,
    held: AtomicBool,
}

impl Permit {
    /// Makes room, once.
    pub(crate) fn release(&self) {
        if self.held.swap(false, Ordering::Relaxed) {
            self.bulkhead.in_use.fetch_sub(1, Ordering::Release);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_more_than_the_limit_gets_no_permit_until_one_is_given_back() {
        let bulkhead = Arc::new(Bulkhead::new("Orders::place".into(), 2));
        let (first, second) = (bulkhead.try_acquire(), bulkhead.try_acquire());
        assert!(first.is_some() && second.is_some() && bulkhead.try_acquire().is_none());
        assert_eq!(bulkhead.in_use(), 2);
        drop(first);
        assert!(bulkhead.try_acquire().is_some());
    }

    #[test]
    fn a_permit_that_was_released_is_not_given_back_twice() {
        let bulkhead = Arc::new(Bulkhead::new("Orders::place".into(), 2));
        let (first, second) = (bulkhead.try_acquire(), bulkhead.try_acquire());
        let first = first.expect("a permit");
        first.release();
        first.release();
        assert_eq!(bulkhead.in_use(), 1);
        drop(second);
        assert_eq!(bulkhead.in_use(), 0);
    }
}
