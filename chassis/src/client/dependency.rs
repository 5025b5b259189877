//! How a destination stands, in one value for health, metrics and the operators' page.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use super::{
    balance::Load,
    breaker::{BreakerMode, BreakerState, Counts},
    hedge::HedgeCounts,
    limit::LimitCounts,
    observe::{EndpointCounts, LastError},
    retry::{BudgetCounts, RetryCounts},
};
use crate::{
    discovery::{Endpoint, EndpointHealth, Freshness},
    telemetry::log::date_time,
};

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
    /// Whether calls are held back, all or most. An endpoint that nobody could connect to the last time gets next to none,
    /// although the balancer may leave its breaker too few calls to open.
    pub(crate) fn gates(&self) -> bool {
        self.blocks() || self.state == BreakerState::HalfOpen || self.unreachable
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
///
/// A destination without any call yet is neither good nor bad.
pub(crate) fn standing(endpoints: &[EndpointReport], freshness: &Freshness) -> (Standing, String) {
    let lost = match freshness {
        Freshness::Lost { since, reason } => {
            let ago = tokio::time::Instant::now().into_std().saturating_duration_since(*since);
            let since = SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
            Some(format!("the source of its endpoints is away since {}: {reason}", rfc3339(since)))
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
    let count = endpoints.len();
    let gated: Vec<_> = endpoints.iter().filter(|endpoint| endpoint.breaker.gates()).collect();
    let blocked = gated.iter().filter(|endpoint| endpoint.breaker.blocks()).count();
    let critical = endpoints.iter().filter(|endpoint| endpoint.endpoint.health == EndpointHealth::Critical).count();
    let mut said = Vec::new();
    if let Some(first) = gated.first() {
        let state = if first.breaker.unreachable { "unreachable" } else { first.breaker.state.as_str() };
        let more = if gated.len() > 1 { ", and others" } else { "" };
        let authority = first.endpoint.authority();
        said.push(format!("{} of {count} endpoints held back: {authority} is {state}{more}", gated.len()));
    }
    if critical > 0 {
        said.push(format!("{critical} of {count} endpoints critical in the registry"));
    }
    said.extend(lost);
    let called = endpoints.iter().any(|endpoint| endpoint.attempts.attempts > 0);
    let standing = match (blocked == count, said.is_empty(), called) {
        (true, ..) => Standing::Down,
        (false, false, _) => Standing::Degraded,
        (false, true, true) => Standing::Up,
        (false, true, false) => return (Standing::Unknown, "not called yet".to_owned()),
    };
    (standing, said.join("; "))
}

/// `2026-11-20T12:34:56Z`, in UTC.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    format!("{}Z", String::from_utf8_lossy(&date_time(seconds)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::client::{ClientConfig, Outcome, breaker::Breaker, observe::EndpointStats};

    const PENDING: Freshness = Freshness::Pending;
    const FRESH: Freshness = Freshness::Fresh;

    fn lost() -> Freshness {
        Freshness::Lost { since: tokio::time::Instant::now().into_std(), reason: Arc::from("refused") }
    }

    fn endpoint(state: BreakerState, health: EndpointHealth) -> EndpointReport {
        let mut endpoint = Endpoint::at("10.0.0.1", 80);
        endpoint.health = health;
        let now = tokio::time::Instant::now().into_std();
        let breaker = Breaker::new(&ClientConfig::default().breaker);
        if let Ok(permit) = breaker.admit(now) {
            permit.record(Outcome::Success, Duration::ZERO, now);
        }
        let stats = EndpointStats::new(&endpoint);
        EndpointReport {
            load: Load::default(),
            breaker: BreakerReport { state, forced: None, wait: None, unreachable: false, counts: breaker.counts(now) },
            attempts: EndpointCounts { attempts: 1, ..stats.counts() },
            latency: None,
            last_error: None,
            endpoint,
        }
    }

    #[tokio::test]
    async fn a_destination_is_as_good_as_its_endpoints_and_what_is_known_of_them() {
        use BreakerState::{Closed, ForcedOpen, HalfOpen, Open};
        let passing = EndpointHealth::Passing;
        let of = |states: &[BreakerState]| states.iter().map(|state| endpoint(*state, passing)).collect::<Vec<_>>();
        for (endpoints, freshness, expected) in [
            (of(&[]), PENDING, Standing::Unknown),
            (of(&[]), FRESH, Standing::Down),
            (of(&[]), lost(), Standing::Down),
            (of(&[Closed, Closed]), FRESH, Standing::Up),
            (of(&[Closed, Closed]), lost(), Standing::Degraded),
            (of(&[Closed, Open]), FRESH, Standing::Degraded),
            (of(&[Open, ForcedOpen]), FRESH, Standing::Down),
            (of(&[Open, HalfOpen]), FRESH, Standing::Degraded),
            (of(&[HalfOpen]), FRESH, Standing::Degraded),
            (vec![endpoint(Closed, EndpointHealth::Critical)], FRESH, Standing::Degraded),
        ] {
            let (found, why) = standing(&endpoints, &freshness);
            assert_eq!(found, expected, "{why}");
            assert_eq!(why.is_empty(), expected == Standing::Up, "{why}");
        }
    }

    #[tokio::test]
    async fn a_destination_that_nobody_has_called_is_neither_good_nor_bad() {
        let mut uncalled = endpoint(BreakerState::Closed, EndpointHealth::Passing);
        uncalled.attempts = EndpointCounts::default();
        assert_eq!(standing(&[uncalled], &FRESH).0, Standing::Unknown);
    }
}
