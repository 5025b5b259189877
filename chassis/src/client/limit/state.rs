//! The places: how many calls are under way, how many wait, and who is next.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::config::LimitConfig;

/// The bulkhead of one destination. A clone is the same. See the [module](super).
#[derive(Debug, Clone)]
pub struct Limit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Its queue is first in, first out.
    places: Arc<Semaphore>,
    limit: AtomicU32,
    queue: AtomicU32,
    /// Places that are to go when their calls end, after the limit was lowered.
    owed: AtomicU32,
    in_use: AtomicU32,
    queued: AtomicU32,
    refused: AtomicU64,
    expired: AtomicU64,
    /// Held while the numbers change, so that two changes do not mix. No call takes it.
    changing: std::sync::Mutex<()>,
}

/// How a bulkhead stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitCounts {
    /// How many calls may be under way.
    pub limit: u32,
    /// How many are.
    pub in_use: u32,
    /// How many wait.
    pub queued: u32,
    /// How many were turned away since the start, since the queue was full.
    pub refused: u64,
    /// How many waited until their time was up, since the start.
    pub expired: u64,
}

impl Limit {
    /// With these numbers.
    #[must_use]
    pub fn new(config: &LimitConfig) -> Self {
        let limit = config.concurrency.max(1);
        Self(Arc::new(Inner {
            places: Arc::new(Semaphore::new(limit as usize)),
            limit: AtomicU32::new(limit),
            queue: AtomicU32::new(config.queue),
            owed: AtomicU32::new(0),
            in_use: AtomicU32::new(0),
            queued: AtomicU32::new(0),
            refused: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            changing: std::sync::Mutex::new(()),
        }))
    }

    /// Other numbers from now on. More places go to those who wait, at once; fewer are reached as calls end. Who waits
    /// already stays in a queue that became shorter.
    pub fn configure(&self, config: &LimitConfig) {
        let _changing = self.0.changing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let limit = config.concurrency.max(1);
        self.0.queue.store(config.queue, Relaxed);
        let former = self.0.limit.swap(limit, Relaxed);
        if limit > former {
            let mut more = limit - former;
            // What is owed is not to go any more; the rest is new.
            let forgiven = self.0.owed.fetch_update(AcqRel, Acquire, |owed| Some(owed.saturating_sub(more)));
            more -= forgiven.unwrap_or_else(|owed| owed).min(more);
            self.0.places.add_permits(more as usize);
        } else {
            self.0.owed.fetch_add(former - limit, AcqRel);
            self.0.settle();
        }
    }

    /// How it stands, for metrics.
    #[must_use]
    pub fn counts(&self) -> LimitCounts {
        LimitCounts {
            limit: self.0.limit.load(Relaxed),
            in_use: self.0.in_use.load(Relaxed),
            queued: self.0.queued.load(Relaxed),
            refused: self.0.refused.load(Relaxed),
            expired: self.0.expired.load(Relaxed),
        }
    }

    /// A place, a turn in the queue, or nothing when the queue is full.
    pub(super) fn enter(&self) -> Entry {
        // A freed place goes to who waits, so that a newcomer finds none while anybody does.
        if let Ok(permit) = Arc::clone(&self.0.places).try_acquire_owned() {
            return Entry::Place(self.place(permit));
        }
        let queue = self.0.queue.load(Relaxed);
        if self.0.queued.fetch_update(AcqRel, Acquire, |queued| (queued < queue).then_some(queued + 1)).is_err() {
            self.0.refused.fetch_add(1, Relaxed);
            return Entry::Full;
        }
        let queued = Queued(self.clone());
        let acquire = Arc::clone(&self.0.places).acquire_owned();
        Entry::Turn(Turn { queued, acquire: Box::pin(async move { acquire.await.ok() }) })
    }

    fn place(&self, permit: OwnedSemaphorePermit) -> Place {
        self.0.in_use.fetch_add(1, Relaxed);
        Place { limit: self.clone(), permit: Some(permit) }
    }
}

impl Inner {
    /// Takes one of the places that are owed out of use, instead of giving it back.
    fn pay(&self) -> bool {
        self.owed.fetch_update(AcqRel, Acquire, |owed| owed.checked_sub(1)).is_ok()
    }

    /// Takes free places out of use, as many as are owed.
    fn settle(&self) {
        while self.owed.load(Acquire) > 0 {
            let Ok(permit) = self.places.try_acquire() else { return };
            if self.pay() {
                permit.forget();
            }
        }
    }
}

pub(super) enum Entry {
    Place(Place),
    Turn(Turn),
    Full,
}

/// A call under way. Dropped, it makes room for the next.
#[derive(Debug)]
pub struct Place {
    limit: Limit,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let inner = &self.limit.0;
        inner.in_use.fetch_sub(1, Release);
        let Some(permit) = self.permit.take() else { return };
        // Debts first: with a queue that never empties no place would ever be free.
        if inner.pay() {
            permit.forget();
        } else {
            drop(permit);
            // The limit may have been lowered in between.
            inner.settle();
        }
    }
}

/// A turn in the queue. Dropped, it is given up.
pub(super) struct Turn {
    queued: Queued,
    acquire: Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>,
}

impl Turn {
    /// The place, once it is there; `None` never comes, since nobody closes the semaphore.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Place>> {
        self.acquire.as_mut().poll(cx).map(|permit| permit.map(|permit| self.queued.0.place(permit)))
    }

    /// Its time was up.
    pub(super) fn expire(&self) {
        self.queued.0.0.expired.fetch_add(1, Relaxed);
    }
}

struct Queued(Limit);

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.0.queued.fetch_sub(1, AcqRel);
    }
}
