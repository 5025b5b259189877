//! What is known of one connection: who is at its other end, and whether anything happens on it.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

/// One connection's life signs, written by its requests and its socket, read by the watch that closes dead ones.
///
/// Relaxed atomics: the values steer time-outs, nothing else hangs on their order.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    peer: Option<SocketAddr>,
    in_flight: AtomicU32,
    requests: AtomicU64,
    bytes_waiting: AtomicBool,
    write_blocked: AtomicBool,
    writes: AtomicU64,
}

impl Connection {
    pub(crate) fn new(peer: Option<SocketAddr>) -> Self {
        Self { peer, ..Self::default() }
    }

    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// A request's head is complete.
    pub(crate) fn begin_request(&self) {
        self.bytes_waiting.store(false, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// Its response has ended, one way or the other.
    pub(crate) fn end_request(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How many requests came so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Bytes arrived that belong to no request yet.
    pub(crate) fn bytes_arrived(&self) {
        if self.in_flight() == 0 {
            self.bytes_waiting.store(true, Ordering::Relaxed);
        }
    }

    /// Whether part of a request head has arrived and the rest has not.
    pub(crate) fn has_partial_head(&self) -> bool {
        self.bytes_waiting.load(Ordering::Relaxed) && self.in_flight() == 0
    }

    /// The socket took bytes, or would not take any.
    pub(crate) fn wrote(&self, blocked: bool) {
        self.write_blocked.store(blocked, Ordering::Relaxed);
        if !blocked {
            self.writes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The number of writes so far if the socket is blocked now.
    pub(crate) fn blocked_at(&self) -> Option<u64> {
        self.write_blocked.load(Ordering::Relaxed).then(|| self.writes.load(Ordering::Relaxed))
    }
}
