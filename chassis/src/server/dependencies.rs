//! `/admin/dependencies`: the destinations of calls out, worst first, and the operator's lever on their breakers.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Json,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::admin::{Operator, PeerName, bad_request};
use crate::{
    cause::Cause,
    client::{
        breaker::BreakerMode,
        dependency::{EndpointReport, StackReport, Standing, rfc3339, standing},
        destination::Destination,
        levers::Lever,
    },
    clock::now,
    config,
    context::Protocol,
    discovery::Freshness,
    lever,
    problem::Problem,
    reject::answer,
    settings::Settings,
    telemetry::audit,
};

/// The largest body that is read: a mode and an id.
const BODY_LIMIT: usize = 64 * 1024;

/// `GET /admin/dependencies`.
pub(super) async fn list(State(operator): State<Arc<Operator>>) -> Response {
    let settings = operator.settings.borrow().value().clone();
    let mut rows: Vec<_> = operator.destinations.all().iter().map(|destination| row(destination)).collect();
    // The names are in order already, and stay so among equals.
    rows.sort_by_key(|(standing, _)| std::cmp::Reverse(*standing));
    let rows: Vec<Value> = rows
        .into_iter()
        .map(|(_, mut row)| {
            row["critical"] = row["name"].as_str().is_some_and(|name| is_critical(&settings, name)).into();
            row
        })
        .collect();
    Json(rows).into_response()
}

/// `GET /admin/dependencies/{name}`: the row of one.
pub(super) async fn one(State(operator): State<Arc<Operator>>, Path(name): Path<String>) -> Response {
    let Some(destination) = operator.destinations.known(&name) else { return unknown(&operator, &name) };
    let mut row = row(&destination).1;
    row["critical"] = is_critical(&operator.settings.borrow().value().clone(), &name).into();
    Json(row).into_response()
}

fn is_critical(settings: &Settings, name: &str) -> bool {
    settings.clients.get(name).is_some_and(|config| config.critical)
}

fn unknown(operator: &Operator, name: &str) -> Response {
    let known = operator.destinations.names();
    not_found(match known.is_empty() {
        true => format!("found {name:?}, and this service calls no other"),
        false => format!("found {name:?}, expected one of the destinations {}", known.join(", ")),
    })
}

fn row(destination: &Destination) -> (Standing, Value) {
    let report = destination.stack().report();
    let freshness = destination.freshness();
    let (standing, reason) = standing(&report.endpoints, &freshness);
    let StackReport { limit, budget, retry, hedge, mut endpoints } = report;
    endpoints
        .sort_by(|one, other| badness(other).cmp(&badness(one)).then_with(|| one.endpoint.id.cmp(&other.endpoint.id)));
    let row = json!({
        "name": &**destination.name(),
        "target": destination.target().to_string(),
        "status": standing.as_str(),
        "reason": reason,
        "discovery": discovery(&freshness),
        "forced": destination.forced().iter().map(forced).collect::<Vec<_>>(),
        "limit": { "concurrency": limit.limit, "in_use": limit.in_use, "queued": limit.queued, "refused": limit.refused },
        "retry": {
            "budget_left": budget.left,
            "budget_refused": budget.refused,
            "retries": retry.retries(),
            "held_back": retry.held_back,
            "given_up": retry.given_up,
            "too_late": retry.too_late,
        },
        "hedge": { "delay_ms": hedge.delay.map(millis), "sent": hedge.sent, "won": hedge.won, "held_back": hedge.held_back },
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    });
    (standing, row)
}

/// A mode that an operator has set, and its end.
fn forced(lever: &Lever) -> Value {
    let left = lever.until.saturating_duration_since(now());
    json!({
        "mode": lever.mode,
        "endpoint": lever.endpoint,
        "until": rfc3339(SystemTime::now() + left),
        "remaining_seconds": left.as_secs(),
    })
}

/// What is worst comes first: an endpoint that gets no calls, then one that the registry doubts, then one that has failed.
fn badness(endpoint: &EndpointReport) -> (bool, bool, u64) {
    let counts = &endpoint.attempts;
    let bad = counts.failed + counts.timed_out + counts.unreachable;
    (endpoint.breaker.gates(), endpoint.endpoint.health > crate::discovery::EndpointHealth::Passing, bad)
}

fn discovery(freshness: &Freshness) -> Value {
    match freshness {
        Freshness::Pending => json!({ "state": "pending" }),
        Freshness::Fresh => json!({ "state": "fresh" }),
        Freshness::Lost { since, reason } => {
            let seconds = tokio::time::Instant::now().into_std().saturating_duration_since(*since).as_secs();
            json!({ "state": "lost", "for_seconds": seconds, "reason": &**reason })
        }
    }
}

fn endpoint(report: &EndpointReport) -> Value {
    let (endpoint, breaker, attempts) = (&report.endpoint, &report.breaker, &report.attempts);
    json!({
        "id": &*endpoint.id,
        "address": endpoint.authority(),
        "zone": endpoint.zone.as_deref(),
        "weight": endpoint.weight,
        "health": endpoint.health.as_str(),
        "breaker": {
            "state": breaker.state.as_str(),
            "forced": breaker.forced,
            "unreachable": breaker.unreachable,
            "retry_after_ms": breaker.wait.map(millis),
            "trip_reason": breaker.counts.trip_reason.map(|reason| reason.as_str()),
            "window": {
                "calls": breaker.counts.calls,
                "failed": breaker.counts.failed,
                "slow": breaker.counts.slow,
                "failure_rate": breaker.counts.failure_rate,
                "slow_rate": breaker.counts.slow_rate,
            },
            "consecutive_failures": breaker.counts.consecutive_failures,
            "opened": breaker.counts.opened,
            "would_have_opened": breaker.counts.would_have_opened,
            "refused": breaker.counts.refused,
        },
        "load": {
            "ewma_ms": report.load.rtt.map(millis),
            "pending": report.load.pending,
            "latency_ms": report.latency.map(millis),
        },
        "attempts": {
            "total": attempts.attempts,
            "success": attempts.success,
            "failed": attempts.failed,
            "timed_out": attempts.timed_out,
            "throttled": attempts.throttled,
            "unreachable": attempts.unreachable,
            "untouched": attempts.untouched,
            "cancelled": attempts.cancelled,
        },
        "last_error": report.last_error.as_ref().map(|error| json!({
            "message": error.message,
            "at": rfc3339(error.at),
            "trace_id": error.trace_id.to_string(),
        })),
    })
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// What `PUT /admin/dependencies/{name}/breaker` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// The mode; `null` gives the breakers back to the settings. It must be there: nothing said by mistake is to open one.
    mode: Value,
    /// The id of one endpoint; all of them, and those to come, when absent.
    #[serde(default)]
    endpoint: Option<String>,
    /// How long it holds; ten minutes when absent, two hours at most. Not beside `null`.
    #[serde(default)]
    ttl: Option<config::Duration>,
}

/// `PUT /admin/dependencies/{name}/breaker`.
pub(super) async fn force(
    State(operator): State<Arc<Operator>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    const EXAMPLE: &str = "expected for example {\"mode\": \"forced_open\", \"ttl\": \"10m\"}, with a mode of enforcing, \
                           metrics_only, disabled, forced_open or null";
    let peer = PeerName::of(request.extensions());
    let body = match axum::body::to_bytes(request.into_body(), BODY_LIMIT).await {
        Ok(body) => body,
        Err(error) => return bad_request(&error.to_string()),
    };
    let read = serde_json::from_slice::<Wanted>(&body)
        .and_then(|lever| Ok((serde_json::from_value::<Option<BreakerMode>>(lever.mode)?, lever.endpoint, lever.ttl)));
    let (mode, wanted, ttl) = match read {
        Ok((None, _, Some(_))) => {
            return bad_request("found ttl beside the mode null, which takes a mode back at once");
        }
        Ok(read) => read,
        Err(error) => return bad_request(&format!("{error}; {EXAMPLE}")),
    };
    let ttl = match lever::ttl(ttl.map(Duration::from)) {
        Ok(ttl) => ttl,
        Err(message) => return bad_request(&message),
    };
    let Some(destination) = operator.destinations.known(&name) else { return unknown(&operator, &name) };
    let set = destination.force(mode, wanted.as_deref(), now() + ttl);
    if let (0, Some(wanted)) = (set, &wanted) {
        return not_found(format!("found the endpoint {wanted:?}, expected an id of GET /admin/dependencies"));
    }
    let word = mode.map(|mode| json!(mode)).unwrap_or_default();
    let seconds = mode.map(|_| ttl.as_secs_f64());
    audit::record(&audit::Event {
        actor: &peer.name(),
        action: "dependency.breaker_forced",
        object: &name,
        outcome: audit::Outcome::Success,
        fields: &[("mode", &word), ("endpoint", &wanted), ("breakers", &set), ("ttl_seconds", &seconds)],
    });
    tracing::warn!(
        destination = name,
        mode = %word,
        endpoint = wanted,
        breakers = set,
        ttl_seconds = seconds,
        "breakers set by an operator"
    );
    Json(row(&destination).1).into_response()
}

fn not_found(detail: String) -> Response {
    answer(Problem::from(Cause::NotFound).detail(detail), Protocol::Http)
}
