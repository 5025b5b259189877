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
    answers_held: AtomicU32,
    answers_taken: AtomicU64,
}

impl Connection {
    pub(crate) fn new(peer: Option<SocketAddr>) -> Self {
        // A dual-stack listener writes IPv4 callers as IPv6, which loopback and log readers would not know.
        let peer = peer.map(|peer| SocketAddr::new(peer.ip().to_canonical(), peer.port()));
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

    /// The transport has a part of an answer to send and does not ask for more, until it takes some.
    pub(crate) fn hold_answer(&self) {
        self.answers_held.fetch_add(1, Ordering::Relaxed);
    }

    /// The transport asks for more of that answer, or gave it up.
    pub(crate) fn take_answer(&self) {
        self.answers_held.fetch_sub(1, Ordering::Relaxed);
        self.answers_taken.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of times that a part of an answer was taken, if every request here waits for the caller to take more.
    pub(crate) fn held_at(&self) -> Option<u64> {
        let held = self.answers_held.load(Ordering::Relaxed);
        (held > 0 && held >= self.in_flight()).then(|| self.answers_taken.load(Ordering::Relaxed))
    }

    /// The number of writes so far if the socket is blocked now.
    pub(crate) fn blocked_at(&self) -> Option<u64> {
        self.write_blocked.load(Ordering::Relaxed).then(|| self.writes.load(Ordering::Relaxed))
    }
}
