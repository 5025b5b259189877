//! One fetch at a time for each key; the others wait for it.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::watch;

/// The fetches under way.
pub(super) struct Flights<K, T>(Mutex<HashMap<K, Flight<T>>>);

struct Flight<T> {
    landing: watch::Receiver<Option<T>>,
    overtaken: Arc<AtomicBool>,
}

/// What to do about a key.
pub(super) enum Part<'a, K: Eq + Hash, T> {
    /// Fetch, and tell the others.
    Lead(Lead<'a, K, T>),
    /// Wait for the one who fetches.
    Follow(watch::Receiver<Option<T>>),
}

/// The right to fetch. Dropped before anything is told, the followers are woken, and one of them leads.
pub(super) struct Lead<'a, K: Eq + Hash, T> {
    flights: &'a Flights<K, T>,
    key: K,
    landing: watch::Sender<Option<T>>,
    overtaken: Arc<AtomicBool>,
}

impl<K: Eq + Hash + Clone, T: Clone> Flights<K, T> {
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }

    pub(super) fn join(&self, key: &K) -> Part<'_, K, T> {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(key) {
            return Part::Follow(flight.landing.clone());
        }
        let (landing, receiver) = watch::channel(None);
        let overtaken = Arc::new(AtomicBool::new(false));
        flights.insert(key.clone(), Flight { landing: receiver, overtaken: Arc::clone(&overtaken) });
        Part::Lead(Lead { flights: self, key: key.clone(), landing, overtaken })
    }

    /// What is being fetched for this key is old already: it is not to be kept, and the next one fetches anew.
    pub(super) fn overtake(&self, key: &K) {
        let flight = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        if let Some(flight) = flight {
            flight.overtaken.store(true, Ordering::Release);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl<K: Eq + Hash, T> Lead<'_, K, T> {
    /// Tells the followers.
    pub(super) fn land(self, result: T) {
        self.leave();
        self.landing.send_replace(Some(result));
    }

    /// Whether what is fetched is old already.
    pub(super) fn is_overtaken(&self) -> bool {
        self.overtaken.load(Ordering::Acquire)
    }

    fn leave(&self) {
        let mut flights = self.flights.0.lock().unwrap_or_else(PoisonError::into_inner);
        if flights.get(&self.key).is_some_and(|flight| Arc::ptr_eq(&flight.overtaken, &self.overtaken)) {
            flights.remove(&self.key);
        }
    }
}

impl<K: Eq + Hash, T> Drop for Lead<'_, K, T> {
    fn drop(&mut self) {
        self.leave();
    }
}
