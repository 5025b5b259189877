//! One request and its answer, from the complete head to the end of the body.

mod span;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU8, AtomicU64},
    },
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use opentelemetry::{Context as OtelContext, trace::TraceId};
use tonic::Code;

use super::{
    connection::Connection,
    failure::{Ended, FailureObserver, Kind, Watcher},
    layer::protocol_of,
    length::Length,
    route::{RouteStats, Traits},
};
use crate::{
    cause::{Cause, ErrorType, Refusal},
    context::{Caller, Entered, Inner, NO_CODE, Protocol, RequestContext, TraceContext},
    health::Answers,
    telemetry::{
        log::{
            AccessLog, AccessOutcome, AccessRecord, AccessStatus,
            blame::{self, Blame, Facts},
        },
        metrics::{
            InFlight, Metrics, RpcSeries, ServerMetrics, SharedCount, code_name, code_of_status, is_server_error,
        },
        names::OTHER,
        propagation::{self, Formats},
        provider::SpanSink, // floor: the request's span goes straight to the exporter's queue
        sampling::Sampler,
    },
};

/// How many gRPC methods have series of their own. Chosen: far above what a service has; the rest shares `_OTHER`.
const MAX_RPC_METHODS: usize = 1000;

/// The word for a request whose caller went away before the answer was complete.
const ABORTED: &str = "aborted";

/// The word for a body that broke off after its head was sent.
const BROKEN_OFF: &str = "broken_off";

/// How the paths of gRPC health begin.
const HEALTH_SERVICE: &str = "/grpc.health.v1.Health/";

/// The status recorded for it. No standard has one; nginx's 499 is what operators know.
const STATUS_ABORTED: u16 = 499;

/// Everything that observing a request needs, shared by all requests.
pub(crate) struct Observer {
    pub(crate) formats: Formats,
    pub(crate) sampler: Sampler,
    pub(crate) spans: SpanSink,
    pub(crate) access: AccessLog,
    pub(crate) metrics: Metrics,
    pub(crate) server: Arc<ServerMetrics>,
    /// Told of each request that was turned away or failed.
    pub(crate) failures: Vec<Watcher>,
    /// The gRPC services that are served, `orders.v1.Orders`.
    pub(crate) grpc: Vec<String>,
    /// Routes and gRPC paths whose successes get no access line.
    pub(crate) quiet: &'static [&'static str],
    /// Whether probes are part of traces.
    pub(crate) trace_probes: bool,
    /// Told of each request of which a panic was caught.
    pub(crate) on_panic: Box<dyn Fn() + Send + Sync>,
    pub(crate) rpc_methods: RwLock<HashMap<Box<str>, Arc<RpcSeries>>>,
    pub(crate) rpc_other: Arc<RpcSeries>,
    /// Requests that ended, but for probes and those whose caller went away.
    answers: SharedCount,
    /// Those of them that failed by the service's own doing.
    own_failures: SharedCount,
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").field("formats", &self.formats).finish_non_exhaustive()
    }
}

impl Observer {
    pub(crate) fn new(
        formats: Formats,
        sampler: Sampler,
        spans: SpanSink,
        access: AccessLog,
        metrics: Metrics,
        server: Arc<ServerMetrics>,
    ) -> Self {
        let rpc_other = Arc::new(server.rpc_series(OTHER));
        Self {
            formats,
            sampler,
            spans,
            access,
            metrics,
            server,
            failures: Vec::new(),
            grpc: Vec::new(),
            quiet: &[],
            trace_probes: false,
            on_panic: Box::new(|| {}),
            rpc_methods: RwLock::default(),
            rpc_other,
            answers: SharedCount::default(),
            own_failures: SharedCount::default(),
        }
    }

    /// How many requests ended, and how many of them failed by the service's own doing.
    pub(crate) fn answers(&self) -> Answers {
        // In this order: a request that ends in between must not be a failure without an answer.
        let failed = self.own_failures.total();
        Answers { all: self.answers.total(), failed }
    }

    /// The same observer, which tells of panics.
    pub(crate) fn with_panics(mut self, on_panic: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_panic = Box::new(on_panic);
        self
    }

    /// The same observer, which tells these of requests that were turned away or failed.
    pub(crate) fn with_failures(mut self, observers: Vec<Arc<dyn FailureObserver>>) -> Self {
        self.failures = observers.into_iter().map(Watcher::new).collect();
        self
    }

    /// The same observer, which knows that these gRPC services are served.
    pub(crate) fn with_grpc(mut self, services: Vec<String>) -> Self {
        self.grpc = services;
        self
    }

    /// Whether the path belongs to a gRPC service that is served. A content type alone makes no gRPC call: whoever sends
    /// it elsewhere is not let off the limits of HTTP.
    fn serves(&self, path: &str) -> bool {
        let service = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        service.is_some_and(|(service, _)| self.grpc.iter().any(|known| known == service))
    }

    /// The same observer, which writes access lines of these routes and gRPC paths only when they fail or are slow.
    pub(crate) fn with_quiet(mut self, paths: &'static [&'static str]) -> Self {
        self.quiet = paths;
        self
    }

    /// The same observer, which records the spans of probes, or not.
    pub(crate) fn with_traced_probes(mut self, trace_probes: bool) -> Self {
        self.trace_probes = trace_probes;
        self
    }

    /// Returns whether the path is a prober's. All methods of gRPC health are: a watch lasts as long as its watcher.
    fn is_probe(&self, path: &str) -> bool {
        self.quiet.contains(&path) || (path.starts_with(HEALTH_SERVICE) && !self.quiet.is_empty())
    }

    pub(super) fn server_metrics(&self) -> &ServerMetrics {
        &self.server
    }

    /// What is to be known of the routes with this template and these traits.
    pub(crate) fn route(&self, template: &str, traits: Traits) -> Arc<RouteStats> {
        Arc::new(RouteStats::new(template, traits, self.quiet.contains(&template)))
    }

    /// The series of a gRPC method, and the name that goes with it. A method gets its own once a service answered it with
    /// anything but UNIMPLEMENTED: whoever calls methods that do not exist adds no series.
    fn rpc_series<'a>(&self, path: &'a str, answered: bool) -> (Arc<RpcSeries>, &'a str) {
        let method = path.trim_start_matches('/');
        let known = self.rpc_methods.read().unwrap_or_else(PoisonError::into_inner).get(method).cloned();
        match known {
            Some(series) => (series, method),
            None if answered => (self.new_rpc_series(method), method),
            None => (self.rpc_other.clone(), OTHER),
        }
    }

    #[cold]
    fn new_rpc_series(&self, method: &str) -> Arc<RpcSeries> {
        let mut methods = self.rpc_methods.write().unwrap_or_else(PoisonError::into_inner);
        if methods.len() >= MAX_RPC_METHODS {
            return self.rpc_other.clone();
        }
        methods.entry(method.into()).or_insert_with(|| Arc::new(self.server.rpc_series(method))).clone()
    }
}

/// How the answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Not yet: dropped in this state, the caller went away.
    Open,
    Complete,
    BrokeOff,
}

/// One request being observed. Dropping it is its end, however that comes.
pub(crate) struct Exchange {
    observer: Arc<Observer>,
    context: RequestContext,
    connection: Option<Arc<Connection>>,
    end: End,
    /// 0 until the response head is there.
    status: u16,
    code: Option<Code>,
    error_type: Option<&'static str>,
    sent: u64,
    /// Whether a method of gRPC gave the answer, whatever its status: one that does not exist gives no [`tonic::Status`].
    from_method: bool,
    /// Why the chassis, and not the handler, gave the answer.
    refused: Option<Cause>,
    /// Whether the transport has not asked for the rest of the answer.
    held: bool,
    _in_flight: InFlight,
}

impl Exchange {
    pub(super) fn begin<B>(
        observer: &Arc<Observer>,
        request: &Request<B>,
        connection: Option<&Arc<Connection>>,
        started: Instant,
    ) -> Self {
        if let Some(connection) = connection {
            connection.begin_request();
        }
        let headers = request.headers();
        let remote = propagation::extract(headers, observer.formats);
        let mut own = observer.sampler.start(remote.as_ref());
        if own.flags.is_sampled() && !observer.trace_probes && observer.is_probe(request.uri().path()) {
            own.flags = own.flags.with_sampled(false);
        }
        // Asked for by the span alone.
        let recorded = own.flags.is_sampled() && observer.spans.is_enabled();
        let peer: Option<SocketAddr> = connection.and_then(|connection| connection.peer());
        let (parent_id, state) = match remote {
            Some(remote) => (Some(remote.parent.parent_id), remote.state),
            None => (None, None),
        };
        let protocol = protocol_of(headers);
        let rpc =
            protocol != Protocol::Http && request.method() == Method::POST && observer.serves(request.uri().path());
        let context = RequestContext(Arc::new(Inner {
            rpc,
            formats: observer.formats,
            trace: TraceContext { trace_id: own.trace_id, span_id: own.parent_id, parent_id, flags: own.flags, state },
            started,
            protocol,
            method: request.method().clone(),
            version: request.version(),
            target: request.uri().clone(),
            user_agent: headers.get(header::USER_AGENT).cloned(),
            host: recorded.then(|| span::host(request)).flatten(),
            content_length: headers.get(header::CONTENT_LENGTH).map_or(0, announced),
            peer,
            deadline: AtomicU64::new(u64::MAX),
            callers_limit: AtomicU64::new(u64::MAX),
            waits_for_body: AtomicBool::new(false),
            panic: OnceLock::new(),
            inside: OnceLock::new(),
            permit: OnceLock::new(),
            web_code: AtomicU8::new(NO_CODE),
            failure: OnceLock::new(),
            route: OnceLock::new(),
            baggage: propagation::extract_baggage(headers, observer.formats),
            caller: Caller::read(headers, protocol),
        }));
        Self {
            observer: observer.clone(),
            context,
            connection: connection.cloned(),
            end: End::Open,
            status: 0,
            code: None,
            error_type: None,
            sent: 0,
            from_method: false,
            refused: None,
            held: false,
            _in_flight: observer.server.enter(request.method()),
        }
    }

    pub(super) fn context(&self) -> &RequestContext {
        &self.context
    }

    /// Whether this request's span goes to an exporter.
    fn is_recorded(&self) -> bool {
        self.context.trace().flags.is_sampled() && self.observer.spans.is_enabled()
    }

    /// The context in which the handler's own spans are made; a request that is not recorded has none.
    pub(super) fn otel(&self) -> Option<OtelContext> {
        self.is_recorded().then(|| {
            let trace = self.context.trace();
            #[cfg(feature = "testing")]
            self.observer.spans.claim_children_of(trace.span_id);
            trace.to_otel()
        })
    }

    /// The response head is there; it is told what the route's callers have to know.
    pub(super) fn answered<B>(&mut self, response: &mut Response<B>) {
        self.status = response.status().as_u16();
        self.error_type = response.extensions().get::<ErrorType>().map(|error| error.0);
        if let Some(Refusal(cause)) = response.extensions().get() {
            self.refused = Some(*cause);
            self.observer.metrics.reject(*cause);
        }
        if let Some(route) = self.context.0.route.get() {
            route.tell(response.headers_mut());
        }
        if let Some(connection) = &self.connection {
            connection.answered(self.context.0.version, &self.context.0.method, response.status());
        }
        if self.context.protocol() != Protocol::Http {
            self.code = grpc_code(response.headers());
            // tonic's own answer for a method that it does not know is a bare head.
            let by_method = self.code.is_none() || response.extensions().get::<tonic::Status>().is_some();
            self.from_method = by_method && self.refused != Some(Cause::MethodNotAllowed);
        }
    }

    /// The length of the answer's body, `size` if that is known; corrects the head where it contradicts itself.
    pub(super) fn length(&self, status: StatusCode, headers: &mut HeaderMap, size: Option<u64>) -> Length {
        Length::of(&self.context.0.method, self.context.0.version, status, headers, size)
    }

    /// Counts bytes of the body that were handed over.
    pub(super) fn sent(&mut self, bytes: u64) {
        self.sent += bytes;
    }

    pub(super) fn trailers(&mut self, trailers: &HeaderMap) {
        self.code = grpc_code(trailers).or(self.code);
    }

    /// Whether the transport holds a part of the answer and does not ask for the rest. Noted for HTTP/2 alone, where the
    /// caller can keep the socket going and a stream standing; over HTTP/1.1 the socket itself stands.
    pub(super) fn hold(&mut self, held: bool) {
        let Some(connection) = &self.connection else { return };
        if self.held == held || self.context.0.version != Version::HTTP_2 {
            return;
        }
        self.held = held;
        if held { connection.hold_answer() } else { connection.take_answer() }
    }

    pub(super) fn completed(&mut self) {
        self.end = End::Complete;
        self.release();
    }

    pub(super) fn broke_off(&mut self) {
        self.end = End::BrokeOff;
        self.release();
    }

    /// Makes room in the route's bulkhead. Before the last of the answer goes out: whoever has read it may ask again.
    fn release(&self) {
        if let Some(permit) = self.context.0.permit.get() {
            permit.release();
        }
    }

    fn finish(&mut self) {
        self.release();
        if self.context.0.panic.get().is_some() {
            (self.observer.on_panic)();
        }
        let elapsed = self.context.started().elapsed();
        self.error_type = self.error_type.or_else(|| self.context.0.failure.get().copied()).or(match self.end {
            End::Complete => None,
            End::BrokeOff => Some(BROKEN_OFF),
            End::Open => Some(ABORTED),
        });
        if self.context.protocol() == Protocol::Http { self.finish_http(elapsed) } else { self.finish_rpc(elapsed) }
    }

    fn finish_http(&mut self, elapsed: Duration) {
        let inner = &*self.context.0;
        let status = if self.status == 0 { STATUS_ABORTED } else { self.status };
        let error_type = self.error_type;
        let route = inner.route.get();
        let series = match route {
            Some(route) => route.series(&self.observer, &inner.method),
            None => self.observer.server.unmatched(&inner.method),
        };
        let seconds = elapsed.as_secs_f64();
        if self.is_recorded() {
            series.record_sampled(
                status,
                inner.version,
                error_type,
                seconds,
                (inner.trace.trace_id, inner.trace.span_id),
            );
            self.observer.spans.export(self.http_span(status, error_type));
        } else {
            series.record(status, inner.version, error_type, seconds);
        }
        let answer = AccessStatus::Http(status);
        let probe = route.is_some_and(|route| route.is_quiet());
        let blame = self.blame(probe, answer, elapsed);
        self.count(probe, blame);
        if self.wants_line(probe, answer, error_type, elapsed) {
            let route = route.map(|route| route.template());
            self.observer.access.write(&self.record(route, answer, error_type, elapsed, blame));
        }
        if !self.observer.failures.is_empty() {
            self.tell(status, None, error_type, elapsed);
        }
    }

    fn finish_rpc(&mut self, elapsed: Duration) {
        let inner = &*self.context.0;
        let code = match (self.code.or_else(|| self.context.noted_code()), self.end) {
            (Some(code), _) => code,
            (None, End::Open) => Code::Cancelled,
            // gRPC's own reading of an answer without a grpc-status (gRPC over HTTP/2, "HTTP to gRPC status code mapping").
            (None, _) => code_of_status(self.status),
        };
        let error_type = self.error_type.or_else(|| (code != Code::Ok).then(|| code_name(code)));
        let path = inner.target.path();
        let answered = inner.rpc && inner.route.get().is_some() && (code != Code::Unimplemented || self.from_method);
        let (series, method) = self.observer.rpc_series(path, answered);
        let seconds = elapsed.as_secs_f64();
        if self.is_recorded() {
            series.record_sampled(code, self.error_type, seconds, (inner.trace.trace_id, inner.trace.span_id));
            self.observer.spans.export(self.rpc_span(method, code, error_type));
        } else {
            series.record(code, self.error_type, seconds);
        }
        let answer = AccessStatus::Grpc(code);
        let probe = self.observer.quiet.contains(&path);
        let blame = self.blame(probe, answer, elapsed);
        self.count(probe, blame);
        if self.wants_line(probe, answer, error_type, elapsed) {
            self.observer.access.write(&self.record(Some(method), answer, error_type, elapsed, blame));
        }
        if !self.observer.failures.is_empty() {
            self.tell(self.status, Some(code), error_type, elapsed);
        }
    }

    /// Tells the failure observers how the request ended, if it ended badly.
    fn tell(&self, status: u16, code: Option<Code>, error_type: Option<&'static str>, elapsed: Duration) {
        let panicked = self.context.0.panic.get().is_some();
        // A caller that went away is nobody's failure.
        let kind = match (self.refused, self.end) {
            _ if panicked => Kind::Failed,
            (Some(Cause::Internal), _) => Kind::Failed,
            (Some(_), _) => Kind::Rejected,
            (None, End::BrokeOff) => Kind::Failed,
            (None, End::Open) => return,
            // A stream that told of its error in its body and ended there: the head had promised a success.
            (None, End::Complete) if self.context.0.failure.get().is_some() => Kind::Failed,
            (None, End::Complete) => match code {
                Some(Code::Ok) => return,
                // A method that is not there is the caller's mistake.
                Some(Code::Unimplemented) if !self.from_method => Kind::Declined,
                Some(code) if is_server_error(code) => Kind::Failed,
                Some(_) => Kind::Declined,
                None if status >= 500 => Kind::Failed,
                None if status >= 400 => Kind::Declined,
                None => return,
            },
        };
        let ended = Ended { kind, cause: self.refused, error_type, status, code, elapsed };
        let _entered = Entered::enter(self.context.clone());
        for watcher in &self.observer.failures {
            watcher.tell(&ended, &self.context);
        }
    }

    /// Counts the request for the check of the service's own failures.
    fn count(&self, probe: bool, blame: Option<Blame>) {
        let own_failure = blame.is_some_and(Blame::is_own_failure);
        if probe || (self.end == End::Open && !own_failure) {
            return;
        }
        self.observer.answers.add_one();
        if own_failure {
            self.observer.own_failures.add_one();
        }
    }

    /// Whose doing the failure is, if it is one.
    fn blame(&self, probe: bool, status: AccessStatus, elapsed: Duration) -> Option<Blame> {
        let deadline = self.refused == Some(Cause::DeadlineExceeded)
            || self.error_type == Some(Cause::DeadlineExceeded.as_str())
            || matches!(status, AccessStatus::Http(504) | AccessStatus::Grpc(Code::DeadlineExceeded));
        let broken = self.end == End::BrokeOff || self.context.0.failure.get().is_some();
        let over_by_caller = self.context.is_over_by_caller(elapsed);
        blame::blame(&Facts {
            probe,
            status,
            refused: self.refused,
            deadline,
            over_by_caller,
            // The caller's deadline breaks a body off, and is the caller's all the same.
            broke: self.context.0.panic.get().is_some() || (broken && !(deadline && over_by_caller)),
        })
    }

    /// Whether the answer ended otherwise than its head promised.
    fn interrupted(&self) -> bool {
        self.end != End::Complete || self.context.0.failure.get().is_some()
    }

    fn wants_line(&self, quiet: bool, status: AccessStatus, error: Option<&'static str>, elapsed: Duration) -> bool {
        let access = &self.observer.access;
        // What a handler answers with a 4xx is the caller's affair, and counts as a success of the service.
        let error = error.filter(|_| self.refused.is_some() || self.interrupted());
        access.wants(status, error, elapsed) && (!quiet || access.is_remarkable(status, error, elapsed))
    }

    fn record<'a>(
        &'a self,
        route: Option<&'a str>,
        status: AccessStatus,
        error_type: Option<&'static str>,
        duration: Duration,
        blame: Option<Blame>,
    ) -> AccessRecord<'a> {
        let inner = &*self.context.0;
        AccessRecord {
            protocol: inner.protocol,
            method: inner.method.as_str(),
            path: inner.target.path(),
            query: inner.target.query(),
            route,
            status,
            error_type,
            duration,
            request_bytes: inner.content_length,
            response_bytes: self.sent,
            peer: inner.peer.map(|peer| peer.ip()),
            user_agent: inner.user_agent.as_ref().and_then(|agent| agent.to_str().ok()),
            trace_id: inner.trace.trace_id,
            span_id: inner.trace.span_id,
            sampled: inner.trace.flags.is_sampled(),
            outcome: if self.end == End::Complete { AccessOutcome::Complete } else { AccessOutcome::Aborted },
            blame,
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.finish();
        self.hold(false);
        if let Some(connection) = &self.connection {
            connection.end_request();
        }
    }
}

pub(super) fn grpc_code(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|status| Code::from_bytes(status.as_bytes()))
}

/// The length that a `content-length` header announces; 0 when it announces none.
fn announced(value: &HeaderValue) -> u64 {
    value.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// A trace id in 32 hexadecimal digits.
pub(super) fn hex_trace_id(id: TraceId) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(id.to_bytes()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_prints_as_opentelemetry_prints_it() {
        let id = TraceId::from(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128);
        assert_eq!(std::str::from_utf8(&hex_trace_id(id)).ok(), Some(id.to_string().as_str()));
    }
}
