//! What happened to a cache.

use std::sync::atomic::{AtomicU64, Ordering};

/// What happened to a cache so far, and what it holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Served what was kept.
    pub hits: u64,
    /// Fetched.
    pub misses: u64,
    /// Served what another caller fetched at the same time.
    pub shared: u64,
    /// Served an old value, since a new one could not be had.
    pub stale: u64,
    /// Fetches that failed.
    pub failures: u64,
    /// Values that made room for others.
    pub evicted: u64,
    /// Values that are kept now, about.
    pub entries: u64,
    /// Their size now, about; their number when the cache is not sized.
    pub size: u64,
    /// Fetches under way now.
    pub fetching: usize,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
    pub(super) shared: AtomicU64,
    pub(super) stale: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) evicted: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self, entries: u64, size: u64, fetching: usize) -> CacheStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheStats {
            hits: read(&self.hits),
            misses: read(&self.misses),
            shared: read(&self.shared),
            stale: read(&self.stale),
            failures: read(&self.failures),
            evicted: read(&self.evicted),
            entries,
            size,
            fetching,
        }
    }
}
