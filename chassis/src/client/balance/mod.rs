//! The balancer of one destination.

mod census;
pub mod config;
mod load;
mod pick;
mod pool;
mod service;
mod set;
mod tried;

use std::time::{Duration, Instant};

use crate::discovery::Endpoint;

pub use self::{
    load::Load,
    service::{Balance, Flight, ResponseFuture, Standing},
    tried::Tried,
};

/// Makes what carries calls to one endpoint: its breaker, its connections. Any `Fn(&Endpoint) -> S` is one.
pub trait MakeEndpoint: Send + Sync + 'static {
    /// The service of one endpoint.
    type Service;

    /// The service of this endpoint. It is asked once for each id and address, and the service kept as long as they stay.
    fn make(&self, endpoint: &Endpoint) -> Self::Service;
}

impl<F, S> MakeEndpoint for F
where
    F: Fn(&Endpoint) -> S + Send + Sync + 'static,
{
    type Service = S;

    fn make(&self, endpoint: &Endpoint) -> S {
        self(endpoint)
    }
}

/// Whether an endpoint's service would take a call now: the state of its breaker, as the balancer sees it.
///
/// Asked for each call, so it is to cost a few nanoseconds, and to change nothing.
pub trait Available {
    /// Whether a call would be let through.
    fn is_available(&self, now: Instant) -> bool;

    /// How long until it may be asked again; `None` when that is not known, or when it is available.
    fn wait(&self, now: Instant) -> Option<Duration> {
        let _ = now;
        None
    }

    /// Whether the last failure was that there was no connection. Such an endpoint is of no use even when all others are
    /// failing: there is no capacity.
    fn is_unreachable(&self) -> bool {
        false
    }

    /// Called when no endpoint of the destination is available: the wait that is under way must not be longer than the
    /// first one, so that a destination that comes back is seen soon.
    fn cap_wait(&self) {}
}

/// In the extensions of a request that is sent although the endpoint's breaker is open, because too few others are left.
/// The breaker lets it through, and learns from its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bypass;
