//! What a call out is seen by: its spans, its metrics, its log line, and what travels with it to the service called.
//!
//! # Two spans
//!
//! A call has one span of its own, and one more for each attempt, its children. The attempts are the clients' spans
//! (`CLIENT`): the conventions want one for each time that a request goes over the wire, and none of that kind around them
//! (OpenTelemetry HTTP spans, "HTTP client span"); the span of the service called is the child of the attempt that
//! reached it. The call's own is `INTERNAL`: it has what lies between the attempts, waits and refusals. gRPC has the same
//! two (gRFC A72: `Sent` around `Attempt`).
//!
//! # Two durations
//!
//! `http.client.request.duration` and `rpc.client.call.duration` are those of the attempts, since the conventions want
//! them equal to the client's span. `chassis.client.call.duration` is what the caller waited for.
//!
//! An attempt over HTTP ends with the head of the answer, since nobody promises to read the rest (same place, "HTTP client
//! span duration"); one over gRPC ends with its trailers, which have the code. A call ends with its answer's last byte, or
//! when the answer is dropped.
//!
//! # One judgement of an endpoint
//!
//! The counts of an endpoint say of each attempt what its breaker says: a body that breaks off is a failure, over HTTP too;
//! an attempt that its call left too little time, and one that was given up, say nothing and count as cancelled. The
//! duration's `error.type` and code are those of the attempt: such an attempt still has `timed_out` there.
//!
//! # Cost
//!
//! As for requests served: spans are made directly, and only of calls that are sampled; series are bound once and kept. A
//! call that is not sampled allocates the note that its attempts share, its place among the request's extensions, and
//! the `traceparent` of each attempt.

mod attempt;
mod call;
mod endpoint;
mod line;
mod note;
mod span;
#[cfg(all(test, feature = "testing"))]
mod tests;
mod timing;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{HeaderMap, HeaderValue, Request, header};
use opentelemetry::trace::SpanId;

pub(super) use self::line::LineBound;
pub(crate) use self::timing::Carried;
pub use self::{
    attempt::{AttemptFuture, AttemptLayer, AttemptService, AttemptWatch},
    call::{CallFuture, CallLayer, CallService, CallWatch},
    endpoint::{EndpointCounts, EndpointStats, LastError},
    timing::{Phase, Timed, TimedFuture},
};
use super::{
    call::CallInfo,
    propagate::{LivePropagation, Propagated, Propagation},
};
use crate::{
    cause::Cause,
    context::{CALLER_HEADER, Protocol},
    discovery::Endpoint,
    identity::Identity,
    telemetry::{
        metrics::{
            CallSeries, ClientLevels, ClientMetrics, HttpAttempts, METHODS, Metrics, RpcAttempts, method_index,
            method_label,
        },
        names::OTHER,
        propagation::{self, Formats, TraceParent},
        provider::SpanSink, // floor: spans go straight to the exporter's queue, as those of requests do
        sampling::Sampler,
    },
};
pub(super) use note::CallNote;

/// How many ports of one destination have series of their own. Chosen: above what a list of instances has; the rest has the
/// attribute `server.port` no more.
const MAX_PORTS: usize = 16;

/// How many methods of one kind have series of their own. Chosen: far above what a client has; the rest shares `_OTHER`.
const MAX_METHODS: usize = 1000;

/// The states that a breaker changes to, as its metric has them.
const STATES: [&str; 6] = ["closed", "open", "half_open", "forced_open", "disabled", "metrics_only"];

/// The causes for which calls out are held back, shown from the start; others when they occur.
const CAUSES: [Cause; 4] = [Cause::DeadlineExceeded, Cause::CircuitOpen, Cause::BulkheadFull, Cause::NoEndpoints];

/// Everything that observing the calls to one destination needs, shared by all of them.
pub struct ClientObserver {
    destination: Arc<str>,
    port: Option<u16>,
    formats: Formats,
    sampler: Sampler,
    spans: SpanSink,
    metrics: Arc<ClientMetrics>,
    /// `x-caller-service` and `user-agent`; `None` when the name is no header's value.
    caller: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    propagation: LivePropagation,
    http: [OnceLock<Arc<ByPort<HttpAttempts>>>; METHODS.len()],
    /// By HTTP method and path template; gRPC methods last.
    methods: [RwLock<HashMap<Box<str>, Arc<Called>>>; METHODS.len() + 1],
    /// By the place of the cause in its declaration.
    refused: [AtomicU64; Cause::ALL.len()],
    transitions: [AtomicU64; STATES.len()],
    lines: LineBound,
}

impl ClientObserver {
    pub(crate) fn new(
        destination: &str,
        port: Option<u16>,
        formats: Formats,
        sampler: Sampler,
        spans: SpanSink,
        metrics: &Metrics,
        identity: &Identity,
    ) -> Self {
        Self {
            destination: destination.into(),
            port,
            formats,
            sampler,
            spans,
            metrics: metrics.client(),
            caller: HeaderValue::from_str(&identity.service).ok(),
            user_agent: HeaderValue::from_str(&format!("{}/{}", identity.service, identity.version)).ok(),
            propagation: LivePropagation::new(Propagation::ALL),
            http: Default::default(),
            methods: Default::default(),
            refused: Default::default(),
            transitions: Default::default(),
            lines: LineBound::default(),
        }
    }

    /// The destination's name under `[clients]`.
    #[must_use]
    pub fn destination(&self) -> &str {
        &self.destination
    }

    /// The port that an attempt at this endpoint goes to, as the caller sees it: the target's when it names one.
    fn port_of(&self, endpoint: &EndpointStats) -> u16 {
        self.port.unwrap_or(endpoint.endpoint().port)
    }

    /// The breaker of an endpoint has changed to the state of this word, for this reason: counted, and one line in the log.
    pub(crate) fn breaker_changed(&self, endpoint: &Endpoint, state: &'static str, reason: &str) {
        if let Some(at) = STATES.iter().position(|known| *known == state) {
            self.transitions[at].fetch_add(1, Ordering::Relaxed);
        }
        line::breaker(&self.destination, &endpoint.authority(), state, reason);
    }

    /// What this observer counts itself; the rest is its owner's to fill in.
    pub(crate) fn levels(&self) -> ClientLevels {
        let refused = Cause::ALL.into_iter().map(|cause| (cause, self.refused[cause as usize].load(Ordering::Relaxed)));
        let refused = refused.filter(|(cause, count)| *count > 0 || CAUSES.contains(cause));
        let transitions = STATES.iter().zip(&self.transitions);
        ClientLevels {
            destination: Arc::clone(&self.destination),
            refused: refused.map(|(cause, count)| (cause.as_str(), count)).collect(),
            transitions: transitions.map(|(state, count)| (*state, count.load(Ordering::Relaxed))).collect(),
            ..ClientLevels::default()
        }
    }

    /// Takes over what travels with calls from now on.
    pub(crate) fn propagate(&self, what: Propagation) {
        self.propagation.set(what);
    }

    /// What travels with a call.
    pub(crate) fn propagation(&self) -> Propagation {
        self.propagation.get()
    }

    /// Writes what travels with a call, as far as its destination is to have it: trace context with this span as the parent,
    /// baggage, the priority of the request being served, and who calls.
    fn write_headers(&self, headers: &mut HeaderMap, call: &CallNote, span_id: SpanId) {
        // Once, and not at every doubling: traceparent, tracestate, baggage, priority, caller, user-agent.
        headers.reserve(6);
        let parent = TraceParent { parent_id: span_id, ..call.parent };
        let what = self.propagation.get();
        match &call.context {
            Some(context) => {
                if what.has(Propagated::TraceContext) {
                    context.write_trace(headers, &parent);
                }
                if what.has(Propagated::Baggage) {
                    context.write_baggage(headers);
                }
                if what.has(Propagated::Priority) {
                    context.write_priority(headers);
                }
            }
            None if what.has(Propagated::TraceContext) => {
                propagation::inject(headers, &parent, call.state.as_ref(), self.formats);
            }
            None => {}
        }
        if !what.has(Propagated::Caller) {
            return;
        }
        if let Some(caller) = &self.caller {
            headers.insert(CALLER_HEADER, caller.clone());
        }
        if let (Some(agent), header::Entry::Vacant(place)) = (&self.user_agent, headers.entry(header::USER_AGENT)) {
            place.insert(agent.clone());
        }
    }

    /// What is known of the method that a request calls.
    fn called<B>(&self, request: &Request<B>, info: Option<&CallInfo>) -> Arc<Called> {
        let grpc = info.map_or_else(|| is_grpc(request.headers()), |info| info.protocol != Protocol::Http);
        let (place, key) = if grpc {
            (METHODS.len(), request.uri().path().trim_start_matches('/'))
        } else {
            (method_index(request.method()), info.map_or("", |info| &info.template))
        };
        let known = {
            let methods = self.methods[place].read().unwrap_or_else(PoisonError::into_inner);
            // Once there are too many, all further ones are one: looked up here, so that nobody waits for the writer.
            let known = methods.get(key).or_else(|| methods.get(OTHER).filter(|_| methods.len() >= MAX_METHODS));
            known.cloned()
        };
        known.unwrap_or_else(|| self.new_called(place, key, request.method()))
    }

    #[cold]
    fn new_called(&self, place: usize, key: &str, method: &http::Method) -> Arc<Called> {
        let mut methods = self.methods[place].write().unwrap_or_else(PoisonError::into_inner);
        let key = if methods.len() < MAX_METHODS { key } else { OTHER };
        if let Some(known) = methods.get(key) {
            return Arc::clone(known);
        }
        let grpc = place == METHODS.len();
        let name = match (grpc, key) {
            (true, _) => key.to_owned(),
            (false, "") => method_label(method).to_owned(),
            (false, _) => format!("{} {key}", method_label(method)),
        };
        let attempts = if grpc {
            Attempts::Rpc(Box::default())
        } else {
            Attempts::Http(Arc::clone(self.http[place].get_or_init(Arc::default)))
        };
        let called = Arc::new(Called {
            calls: self.metrics.calls(&self.destination, &name),
            name: name.into(),
            method: method_label(method),
            template: (!grpc && !key.is_empty()).then(|| key.into()),
            attempts,
        });
        methods.insert(key.into(), Arc::clone(&called));
        called
    }
}

impl fmt::Debug for ClientObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientObserver").field("destination", &self.destination).finish_non_exhaustive()
    }
}

/// One method of a destination: its name, and where its calls are counted.
#[derive(Debug)]
struct Called {
    /// `GET /orders/{id}` or `orders.v1.Orders/GetOrder`.
    name: Box<str>,
    /// The HTTP method.
    method: &'static str,
    /// The path's template; `None` of gRPC, and when nobody told.
    template: Option<Box<str>>,
    calls: CallSeries,
    attempts: Attempts,
}

impl Called {
    fn is_grpc(&self) -> bool {
        matches!(self.attempts, Attempts::Rpc(_))
    }

    fn protocol(&self) -> Protocol {
        if self.is_grpc() { Protocol::Grpc } else { Protocol::Http }
    }
}

/// Where attempts are counted.
#[derive(Debug)]
enum Attempts {
    /// One for all templates: the conventions' stable attributes have none.
    Http(Arc<ByPort<HttpAttempts>>),
    Rpc(Box<ByPort<RpcAttempts>>),
}

/// One of a kind for each port of a destination. The ports of a list are few; those that a scheduler assigns change with
/// each instance, and would make series without end.
#[derive(Debug)]
struct ByPort<T> {
    /// Filled from the front, and never changed after.
    slots: [OnceLock<(u16, T)>; MAX_PORTS],
    /// Of all further ports.
    rest: OnceLock<T>,
}

impl<T> Default for ByPort<T> {
    fn default() -> Self {
        Self { slots: std::array::from_fn(|_| OnceLock::new()), rest: OnceLock::new() }
    }
}

impl<T> ByPort<T> {
    fn of(&self, port: u16, make: impl Fn(Option<u16>) -> T) -> &T {
        for slot in &self.slots {
            let (of, series) = slot.get_or_init(|| (port, make(Some(port))));
            if *of == port {
                return series;
            }
        }
        self.rest.get_or_init(|| make(None))
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}
