//! What is known of one connection: who is at its other end, and whether anything happens on it.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

use axum::extract::ConnectInfo;
use http::{Extensions, Method, StatusCode, Version};
use tonic::transport::server::{TcpConnectInfo, UdsConnectInfo};

use crate::context::Protocol;

/// One connection's life signs, written by its requests and its socket, read by the watch that closes dead ones.
///
/// Relaxed atomics: the values steer time-outs, nothing else hangs on their order.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    peer: Option<SocketAddr>,
    local: Option<SocketAddr>,
    unix: Option<UdsConnectInfo>,
    in_flight: AtomicU32,
    requests: AtomicU64,
    bytes_waiting: AtomicBool,
    write_blocked: AtomicBool,
    writes: AtomicU64,
    answers_held: AtomicU32,
    answers_taken: AtomicU64,
    ends_idle: AtomicBool,
    closing: AtomicBool,
    upgraded: AtomicBool,
}

impl Connection {
    pub(crate) fn new(peer: Option<SocketAddr>) -> Self {
        Self { peer: peer.map(canonical), ..Self::default() }
    }

    /// One whose own end is known too.
    pub(crate) fn between(peer: SocketAddr, local: Option<SocketAddr>) -> Self {
        Self { local: local.map(canonical), ..Self::new(Some(peer)) }
    }

    /// One over a Unix socket, which has no addresses but may know the process at its other end.
    pub(crate) fn over_unix(peer: UdsConnectInfo) -> Self {
        Self { unix: Some(peer), ..Self::default() }
    }

    /// Puts the peer into a request's extensions, as axum's and tonic's own servers do. What another server has put there
    /// stays.
    pub(crate) fn introduce(&self, protocol: Protocol, extensions: &mut Extensions) {
        if let Some(peer) = self.peer
            && extensions.get::<ConnectInfo<SocketAddr>>().is_none()
        {
            extensions.insert(ConnectInfo(peer));
        }
        // Only tonic's services read these.
        if protocol == Protocol::Http {
            return;
        }
        if self.peer.is_some() && extensions.get::<TcpConnectInfo>().is_none() {
            extensions.insert(TcpConnectInfo { local_addr: self.local, remote_addr: self.peer });
        }
        if let Some(unix) = &self.unix {
            extensions.insert(unix.clone());
        }
    }

    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// A request's head is complete.
    pub(crate) fn begin_request(&self) {
        self.bytes_waiting.store(false, Ordering::Relaxed);
        self.ends_idle.store(false, Ordering::Relaxed);
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

    /// This side ends the connection while no request is on it: no answer is on its way that a reset could take away.
    pub(crate) fn end_idle(&self) {
        self.ends_idle.store(!self.has_partial_head() && self.in_flight() == 0, Ordering::Relaxed);
    }

    pub(crate) fn ends_idle(&self) -> bool {
        self.ends_idle.load(Ordering::Relaxed)
    }

    /// Everything was sent and this side is closed; the rest is the close in stages, which has its own bounds.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Notes an answer that is the last of HTTP on the connection: what follows belongs to the handler.
    pub(crate) fn answered(&self, version: Version, method: &Method, status: StatusCode) {
        let tunnel = *method == Method::CONNECT && status.is_success();
        if version <= Version::HTTP_11 && (tunnel || status == StatusCode::SWITCHING_PROTOCOLS) {
            self.upgraded.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_upgraded(&self) -> bool {
        self.upgraded.load(Ordering::Relaxed)
    }
}

/// A dual-stack listener writes IPv4 callers as IPv6, which loopback, lists of addresses and log readers would not know.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
