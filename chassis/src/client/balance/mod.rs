//! The balancer of one destination: which endpoint gets the next call.
//!
//! # The choice
//!
//! Two endpoints are drawn at random and the one that costs less gets the call: the power of two choices (Mitzenmacher, IEEE
//! Transactions on Parallel and Distributed Systems 12, 2001). It takes the same time for ten endpoints as for ten thousand,
//! and callers that do not know of each other do not all run to the same endpoint.
//!
//! # The cost
//!
//! What one more call costs is
//!
//! > max(estimate, silence) × (pending + 1)
//!
//! - *estimate* is the peak-sensitive moving average of response times that Finagle and Linkerd have. With *w* = e^(−Δt / `decay`),
//!   where Δt is the time since the last answer, an answer after *rtt* makes it max(*rtt*, *rtt* + (estimate − *rtt*) × *w*):
//!   a slow answer counts at once, a fast one little by little. While no answer comes it fades as estimate × *w*, so that an
//!   endpoint that was bad gets another chance. Before the first answer it is `default_rtt`, and 0 while no call is pending,
//!   so that one call finds out (Finagle); the first answer takes the place of the default.
//! - A failed call counts as `failure_penalty`, or as what the endpoint asks for with `retry-after` or
//!   `grpc-retry-pushback-ms`, at most 300 s, or as long as it took, whichever is longest. Otherwise an endpoint that fails fast would look like the
//!   fastest of all (Linkerd's load biaser). A call that is given up before the answer counts as having taken at least as long,
//!   and so do one that ends at its deadline with less than twice the time that the endpoint takes to answer, which says
//!   nothing of the endpoint, and one that an endpoint that stops has not looked at ([`Outcome::Untouched`](super::Outcome::Untouched)).
//! - An endpoint whose last call failed is tried again a second later, when it is drawn, although it costs more (go-zero's
//!   forced pick), and not before the time it asked for. So its breaker comes to know of it, and its recovery is seen: left to
//!   fading alone, the penalty would hide it for a minute. Its first good answer takes the penalty's place.
//! - *silence* is for how long the endpoint has owed answers and begun none. It is never more than the age of the oldest call that
//!   waits, so it is a lower bound of what that call will take. Thus an endpoint that is frozen gets expensive although nothing
//!   comes back from it; an average of answers alone would show it as it was before.
//! - *pending* counts calls until the end of their answers, response times go until the head: a long stream is work, and no
//!   sign of slowness.
//! - An endpoint whose breaker lets calls through again starts anew: the estimate of its failures would hide it for much
//!   longer than its breaker does.
//!
//! # Weights
//!
//! When weights differ, the first endpoint is drawn by weight (Vose's alias method, constant time), the second evenly from
//! the others. The second gets the call when it costs a tenth less, and, if it is the lighter one by the factor *f* < 1, only in *f* of
//! the cases, unless its cost is less than *f* times the first's. So, as with the acceptance rule of Metropolis and Hastings,
//! calls are spread by weight where the costs differ by chance, and a heavy endpoint that is bad is avoided all the same.
//! Pending calls are counted in proportion to the weight.
//!
//! # Who is drawn from
//!
//! An address that is listed several times is one endpoint: the entry that the registry calls healthiest, of these the one that
//! is new, with its weight. Then each rule narrows what the ones before have left.
//!
//! 1. Endpoints that the registry calls critical are left out, unless it calls all so.
//! 2. Endpoints whose breaker is open are left out ([`Available`]).
//! 3. With `prefer_zone`, calls stay in this instance's zone: all as long as 1.4 × the available share there is at least 1,
//!    else that part of them (Envoy's overprovisioning factor). The rest goes to the other zones.
//! 4. When the zone cannot carry all, less than `panic_threshold` of all endpoints is available, but not none, and none of
//!    these has room, those whose breaker is open are drawn as well, past their breakers ([`Bypass`]), so that the few that
//!    are left do not carry everything (Envoy's panic). Those that refuse connections are not: there is no capacity. An
//!    endpoint has room while it answers in less than three times its quiet response time and has refused nothing for a second.
//! 5. A new endpoint takes part in max(10 %, age / `slow_start`) of the draws. The endpoints of the first list are not new.
//! 6. Endpoints that earlier attempts of the same call went to ([`Tried`]) are avoided while there is another.
//!
//! When none is available the call fails at once with `circuit_open`, and the breakers are told to cut their waits short
//! ([`Available::cap_wait`]): the last endpoint is never out for long. When there is none at all it fails with `no_endpoints`;
//! only before the first list was told it waits for that, as long as the call's time allows.
//!
//! # What it costs
//!
//! The set of endpoints is immutable and swapped as a whole, and what changes in an endpoint is a few atomics: a pick takes no
//! lock. As long as whoever is drawn is available nobody looks at the others. Once one is not, all are counted, at most every
//! 10 µs for each of them, so 1,000 endpoints every 10 ms.

mod census;
pub mod config;
mod flight;
mod load;
mod pick;
mod pool;
mod service;
mod set;
mod tried;

use std::time::{Duration, Instant};

use super::NotSent;
use crate::discovery::Endpoint;

#[cfg(test)]
pub(crate) use self::tried::Others;
pub use self::{
    flight::Flight,
    load::Load,
    service::{Balance, ResponseFuture, Standing},
    tried::Tried,
};

/// Makes what carries calls to one endpoint: its breaker, its connections. Any `Fn(&Endpoint) -> S` is one.
pub trait MakeEndpoint: Send + Sync + 'static {
    /// The service of one endpoint.
    type Service;

    /// The service of this endpoint. It is asked once for each id and address, and the service kept as long as they stay.
    fn make(&self, endpoint: &Endpoint) -> Self::Service;

    /// The service of an endpoint that has taken the address of another, whose service was `before`: a new instance, as far as
    /// its registry knows, which has still to show that it works where the other did not.
    fn make_successor(&self, endpoint: &Endpoint, before: &Self::Service) -> Self::Service {
        let _ = before;
        self.make(endpoint)
    }

    /// The registry no longer calls the endpoint of this service critical: a sign of life.
    fn recovered(&self, service: &Self::Service) {
        let _ = service;
    }
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

    /// Takes a place for the next call on this very service, a clone of its own; dropped unused, it is given back. `bypass` as
    /// [`Bypass`] has it. So the balancer is told before anything is sent, and can pick another endpoint.
    ///
    /// # Errors
    ///
    /// It lets no call through after all: others were faster than the look of [`is_available`](Self::is_available).
    fn admit(&mut self, now: Instant, bypass: bool) -> Result<(), NotSent> {
        let _ = (now, bypass);
        Ok(())
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

#[cfg(test)]
mod tests;
