//! What is known of one connection: who is at its other end, and whether anything happens on it.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
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
    head: AtomicU8,
    write_blocked: AtomicBool,
    writes: AtomicU64,
    answers_held: AtomicU32,
    answers_taken: AtomicU64,
}

/// Nothing was read since the last request.
const NO_HEAD: u8 = 0;
/// One read, without a `content-length`.
const PLAIN_HEAD: u8 = 1;
/// Anything else.
const OTHER_HEAD: u8 = 2;

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

    /// Bytes were read. Between requests they belong to a head, of which `says_content_length` tells what it says.
    pub(crate) fn read(&self, says_content_length: impl FnOnce() -> bool) {
        if self.in_flight() == 0 {
            self.bytes_waiting.store(true, Ordering::Relaxed);
            let first = self.head.load(Ordering::Relaxed) == NO_HEAD;
            let head = if first && !says_content_length() { PLAIN_HEAD } else { OTHER_HEAD };
            self.head.store(head, Ordering::Relaxed);
        }
    }

    /// Whether the head that is complete now was read in one piece, alone, and without a `content-length`. Asked once of each.
    pub(crate) fn take_plain_head(&self) -> bool {
        let head = self.head.load(Ordering::Relaxed);
        self.head.store(NO_HEAD, Ordering::Relaxed);
        head == PLAIN_HEAD
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
