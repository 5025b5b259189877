//! How a destination stands, in one value for health, metrics and the operators' page.

use std::{
    fmt,
    time::{Duration, Instant},
};

use super::{
    balance::Load,
    breaker::{BreakerMode, BreakerState, Counts},
    hedge::HedgeCounts,
    limit::LimitCounts,
    observe::{EndpointCounts, LastError},
    retry::{BudgetCounts, RetryCounts},
};
use crate::discovery::{Endpoint, EndpointHealth, Freshness};

/// What the stack of a destination knows at one moment.
#[derive(Debug, Clone)]
pub(crate) struct StackReport {
    pub(crate) limit: LimitCounts,
    pub(crate) budget: BudgetCounts,
    pub(crate) retry: RetryCounts,
    pub(crate) hedge: HedgeCounts,
    pub(crate) endpoints: Vec<EndpointReport>,
}

/// What is known of one endpoint.
#[derive(Debug, Clone)]
pub(crate) struct EndpointReport {
    pub(crate) endpoint: Endpoint,
    pub(crate) load: Load,
    pub(crate) breaker: BreakerReport,
    pub(crate) attempts: EndpointCounts,
    pub(crate) latency: Option<Duration>,
    pub(crate) last_error: Option<LastError>,
}

/// How the breaker of an endpoint stands.
#[derive(Debug, Clone)]
pub(crate) struct BreakerReport {
    pub(crate) state: BreakerState,
    pub(crate) forced: Option<BreakerMode>,
    pub(crate) wait: Option<Duration>,
    pub(crate) unreachable: bool,
    pub(crate) counts: Counts,
}

impl BreakerReport {
    /// Whether calls are held back, all or most.
    fn gates(&self) -> bool {
        self.blocks() || self.state == BreakerState::HalfOpen
    }

    /// Whether all are.
    fn blocks(&self) -> bool {
        matches!(self.state, BreakerState::Open | BreakerState::ForcedOpen)
    }
}

/// How one destination is, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// Its endpoints are available.
    Up,
    /// Nothing is known yet.
    Unknown,
    /// Some endpoints are not available, or the list of endpoints is old.
    Degraded,
    /// No endpoint is available.
    Down,
}

impl Standing {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Unknown => "unknown",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a destination stands, and why.
///
/// A half-open breaker does not make a destination down: the next call finds out, and it must come. An instance that needs
/// the destination would else get no requests, make no calls, and never hear that it is back.
pub(crate) fn standing(endpoints: &[EndpointReport], freshness: &Freshness, now: Instant) -> (Standing, String) {
    let lost = match freshness {
        Freshness::Lost { since, reason } => {
            let ago = Duration::from_secs(now.saturating_duration_since(*since).as_secs());
            Some(format!("the source of its endpoints has been away for {}: {reason}", crate::config::Duration(ago)))
        }
        Freshness::Pending | Freshness::Fresh => None,
    };
    if endpoints.is_empty() {
        return match (freshness, lost) {
            (Freshness::Pending, _) => (Standing::Unknown, "its endpoints are not known yet".to_owned()),
            (_, Some(lost)) => (Standing::Down, lost),
            (_, None) => (Standing::Down, "the list of its endpoints is empty".to_owned()),
        };
    }
    let gated: Vec<_> = endpoints.iter().filter(|endpoint| endpoint.breaker.gates()).collect();
    let critical = endpoints.iter().filter(|endpoint| endpoint.endpoint.health == EndpointHealth::Critical).count();
    let mut said = Vec::new();
    if let Some(first) = gated.first() {
        let of = endpoints.len();
        let more = if gated.len() > 1 { " and others" } else { "" };
        let state = if first.breaker.unreachable { "unreachable" } else { first.breaker.state.as_str() };
        said.push(format!("{} of {of} endpoints gated: {} is {state}{more}", gated.len(), first.endpoint.authority()));
    }
    if critical > 0 {
        said.push(format!("{critical} of {} endpoints critical in the registry", endpoints.len()));
    }
    said.extend(lost);
    let blocked = gated.iter().filter(|endpoint| endpoint.breaker.blocks()).count();
    let standing = match (blocked == endpoints.len(), said.is_empty()) {
        (true, _) => Standing::Down,
        (false, false) => Standing::Degraded,
        (false, true) => Standing::Up,
    };
    (standing, said.join("; "))
}
