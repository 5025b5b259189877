//! What the chassis knows of the request being served, readable from anywhere inside its handler.

use std::{
    cell::Cell,
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context as OtelContext,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId},
};

use crate::telemetry::propagation::{self, Baggage, Formats, TraceParent, TraceState};

/// How important a request is to whoever made it first: a word such as `critical`. It is passed on as it came.
///
/// At most [`MAX_PRIORITY`] letters, digits and signs of a token (RFC 9110, section 5.6.2); anything else is as good as none.
pub const PRIORITY_HEADER: HeaderName = HeaderName::from_static("x-request-priority");

/// The name of the service that makes a call. It says who may be asked about the call; it proves nothing.
pub const CALLER_HEADER: HeaderName = HeaderName::from_static("x-caller-service");

/// How many attempts of the same HTTP call were made before this one; absent on the first. What gRFC A6 has for gRPC.
pub const PREVIOUS_ATTEMPTS_HEADER: HeaderName = HeaderName::from_static("x-previous-attempts");

/// How many attempts of the same gRPC call were made before this one; absent on the first (gRFC A6).
pub const GRPC_PREVIOUS_ATTEMPTS_HEADER: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// Where the number of earlier attempts stands: one name for who writes it and who reads it.
pub(crate) const fn previous_attempts_header(protocol: Protocol) -> HeaderName {
    match protocol {
        Protocol::Http => PREVIOUS_ATTEMPTS_HEADER,
        Protocol::Grpc | Protocol::GrpcWeb => GRPC_PREVIOUS_ATTEMPTS_HEADER,
    }
}

/// The longest priority that is taken, in bytes. Chosen: a word, not a text.
pub const MAX_PRIORITY: usize = 32;

/// The longest name of a caller that is taken, in bytes: a DNS label's, which names of services are kept to (RFC 1035).
pub const MAX_CALLER: usize = 63;

/// What a caller says of its call beyond trace and deadline.
#[derive(Debug, Default)]
pub(crate) struct Caller {
    priority: Option<HeaderValue>,
    service: Option<HeaderValue>,
    previous_attempts: u32,
}

impl Caller {
    /// Reads the headers of a request; what is not valid is as good as absent.
    pub(crate) fn read(headers: &HeaderMap, protocol: Protocol) -> Self {
        Self {
            priority: token(headers, &PRIORITY_HEADER, MAX_PRIORITY),
            service: token(headers, &CALLER_HEADER, MAX_CALLER),
            previous_attempts: headers.get(previous_attempts_header(protocol)).map_or(0, number),
        }
    }
}

/// A header that is one token (RFC 9110, section 5.6.2) of at most this length.
fn token(headers: &HeaderMap, name: &HeaderName, longest: usize) -> Option<HeaderValue> {
    let sign = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let value = headers.get(name)?;
    let fits = (1..=longest).contains(&value.len()) && value.as_bytes().iter().all(sign);
    fits.then(|| value.clone())
}

/// A count in decimal digits; 0 for anything else.
fn number(value: &HeaderValue) -> u32 {
    value.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The trace identity of one request as this service serves it.
#[derive(Debug, Clone)]
pub struct TraceContext {
    /// The trace, the caller's when it sent one.
    pub trace_id: TraceId,
    /// The span of this service's own work on the request.
    pub span_id: SpanId,
    /// The caller's span, when it sent one.
    pub parent_id: Option<SpanId>,
    /// The flags that travel on: sampled, random trace id (W3C trace context level 2).
    pub flags: TraceFlags,
    /// The caller's `tracestate`, passed on as it came.
    pub state: Option<TraceState>,
}

impl TraceContext {
    /// This service's own span as OpenTelemetry has it, the parent of what is done for the request.
    #[must_use]
    pub fn span_context(&self) -> SpanContext {
        let state = self.state.as_ref().map(TraceState::to_otel).unwrap_or_default();
        SpanContext::new(self.trace_id, self.span_id, self.flags, false, state)
    }

    /// This trace as the current context of OpenTelemetry, so that spans made under it become its children.
    #[must_use]
    pub fn to_otel(&self) -> OtelContext {
        OtelContext::new().with_remote_span_context(self.span_context())
    }
}

/// How the caller speaks, and so how it must be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Plain HTTP: errors are problem details (RFC 9457).
    Http,
    /// gRPC: errors are trailers-only responses.
    Grpc,
    /// gRPC-Web: as gRPC; the trailers travel in the body.
    GrpcWeb,
}

/// No code of gRPC's.
pub(crate) const NO_CODE: u8 = u8::MAX;

pub(crate) struct Inner {
    pub(crate) trace: TraceContext,
    pub(crate) started: Instant,
    pub(crate) protocol: Protocol,
    /// Whether the call goes to a gRPC service that is served, whatever its content type claims.
    pub(crate) rpc: bool,
    pub(crate) formats: Formats,
    pub(crate) method: http::Method,
    pub(crate) version: http::Version,
    pub(crate) target: http::Uri,
    pub(crate) user_agent: Option<http::HeaderValue>,
    /// Whom the caller asked for; only of a request whose span is kept.
    pub(crate) host: Option<(Box<str>, u16)>,
    pub(crate) content_length: u64,
    pub(crate) peer: Option<std::net::SocketAddr>,
    /// Nanoseconds after `started`; `u64::MAX` means that nothing limits the request.
    pub(crate) deadline: AtomicU64,
    /// The limit that the caller brought, in nanoseconds after the start.
    pub(crate) callers_limit: AtomicU64,
    /// Whether its handler waits for the caller to send more of the body.
    pub(crate) waits_for_body: AtomicBool,
    /// What a panic of its handler, or of its body, said.
    pub(crate) panic: OnceLock<Box<str>>,
    /// The error, with its sources, that the caller was not told.
    pub(crate) inside: OnceLock<Box<str>>,
    // floor: given by the layer of the route, given back by the observer; nobody else looks inside
    pub(crate) permit: OnceLock<crate::route::state::Permit>,
    /// The code that a gRPC-Web call ended with; `NO_CODE` while there is none.
    pub(crate) web_code: AtomicU8,
    /// The word of what ended the answer after its head was sent.
    pub(crate) failure: OnceLock<&'static str>,
    // floor: the observer keeps its own note here, so that it needs no second lookup; nobody else looks inside
    pub(crate) route: OnceLock<Arc<crate::observe::route::RouteStats>>,
    pub(crate) baggage: Option<Baggage>,
    pub(crate) caller: Caller,
}

/// The request being served: its trace, its deadline, its protocol. Cheap to clone.
///
/// Inside a handler [`RequestContext::current`] finds it; it is also in the request's extensions. A task spawned from a
/// handler does not inherit it: pass it on with [`RequestContext::scope`].
#[derive(Clone)]
pub struct RequestContext(pub(crate) Arc<Inner>);

thread_local! {
    static CURRENT: Cell<Option<RequestContext>> = const { Cell::new(None) };
}

impl RequestContext {
    /// The request that the running task serves, if it serves one.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.with(|cell| {
            let current = cell.take();
            let copy = current.clone();
            cell.set(current);
            copy
        })
    }

    /// A request of which nothing is known but its trace.
    #[cfg(test)]
    pub(crate) fn of_trace(trace: TraceContext) -> Self {
        Self(Arc::new(Inner {
            trace,
            started: Instant::now(),
            protocol: Protocol::Http,
            rpc: false,
            formats: Formats::default(),
            method: http::Method::GET,
            version: http::Version::HTTP_11,
            target: http::Uri::default(),
            user_agent: None,
            host: None,
            content_length: 0,
            peer: None,
            deadline: AtomicU64::new(u64::MAX),
            callers_limit: AtomicU64::new(u64::MAX),
            waits_for_body: AtomicBool::new(false),
            panic: OnceLock::new(),
            inside: OnceLock::new(),
            permit: OnceLock::new(),
            web_code: AtomicU8::new(NO_CODE),
            failure: OnceLock::new(),
            route: OnceLock::new(),
            baggage: None,
            caller: Caller::default(),
        }))
    }

    /// Looks at the current request without counting a reference.
    pub(crate) fn with_current<R>(look: impl FnOnce(Option<&Self>) -> R) -> R {
        CURRENT.with(|cell| {
            let current = cell.take();
            let result = look(current.as_ref());
            cell.set(current);
            result
        })
    }

    /// The trace identity of the request.
    #[must_use]
    pub fn trace(&self) -> &TraceContext {
        &self.0.trace
    }

    /// When the request's time is up, on the monotonic clock; `None` when nothing limits it.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self.0.deadline.load(Ordering::Relaxed) {
            u64::MAX => None,
            nanos => Some(self.0.started + Duration::from_nanos(nanos)),
        }
    }

    /// Limits the request's time: the earliest of all limits counts.
    pub(crate) fn limit(&self, deadline: Instant) {
        let nanos = deadline.saturating_duration_since(self.0.started).as_nanos();
        self.0.deadline.fetch_min(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Notes the limit that the caller brought.
    pub(crate) fn limit_by_caller(&self, timeout: Duration) {
        self.0.callers_limit.store(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether the caller's own limit is what ended a request after this time. The last tenth of it counts: calls out end a
    /// little before the request, so that their failure can still be answered.
    pub(crate) fn is_over_by_caller(&self, elapsed: Duration) -> bool {
        let limit = self.0.callers_limit.load(Ordering::Relaxed);
        limit <= self.0.deadline.load(Ordering::Relaxed)
            && limit != u64::MAX
            && elapsed.as_nanos() >= u128::from(limit - limit / 10)
    }

    /// What is left of the request's time; zero when it is up, `None` when nothing limits it.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// The `baggage` that came with the request.
    #[must_use]
    pub fn baggage(&self) -> Option<&Baggage> {
        self.0.baggage.as_ref()
    }

    /// How important the request is to whoever made it first, from [`PRIORITY_HEADER`].
    #[must_use]
    pub fn priority(&self) -> Option<&str> {
        self.0.caller.priority.as_ref().and_then(|value| value.to_str().ok())
    }

    /// The service that made the call, as it says itself, from [`CALLER_HEADER`].
    #[must_use]
    pub fn caller(&self) -> Option<&str> {
        self.0.caller.service.as_ref().and_then(|value| value.to_str().ok())
    }

    /// How many attempts of this call its caller made before, from [`PREVIOUS_ATTEMPTS_HEADER`] or
    /// [`GRPC_PREVIOUS_ATTEMPTS_HEADER`]; 0 on the first.
    #[must_use]
    pub fn previous_attempts(&self) -> u32 {
        self.0.caller.previous_attempts
    }

    /// The address at the other end of the connection; a proxy's when there is one. `None` on a Unix socket.
    #[must_use]
    pub fn peer(&self) -> Option<std::net::SocketAddr> {
        self.0.peer
    }

    /// The template of the route that answers, once it is known: `/orders/{id}`.
    #[must_use]
    pub fn route(&self) -> Option<&str> {
        self.0.route.get().map(|route| route.template())
    }

    /// Whether a second request with the same content does no harm: the HTTP method promises it (RFC 9110, section 9.2.2:
    /// GET, HEAD, PUT, DELETE, OPTIONS, TRACE), or the route is declared `idempotent`.
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        self.0.method.is_idempotent() || self.0.route.get().is_some_and(|route| route.is_idempotent())
    }

    /// Writes this request's trace and baggage to the headers of a call out, in the configured formats.
    ///
    /// The parent is the innermost span at this point: a handler's own, if it is recorded, or else the request's.
    pub fn inject(&self, headers: &mut HeaderMap) {
        self.write(headers, &self.innermost());
    }

    /// As [`inject`](Self::inject), with a span of the caller's own as the parent.
    pub fn inject_as(&self, headers: &mut HeaderMap, span_id: SpanId) {
        self.write(headers, &TraceParent { parent_id: span_id, ..self.innermost() });
    }

    /// The innermost span of this request at this point: a handler's own, if it is recorded, or else the request's.
    pub(crate) fn innermost(&self) -> TraceParent {
        let own =
            TraceParent { trace_id: self.0.trace.trace_id, parent_id: self.0.trace.span_id, flags: self.0.trace.flags };
        OtelContext::map_current(|current| {
            let innermost = TraceParent::from_span_context(current.span().span_context());
            innermost.filter(|span| span.trace_id == own.trace_id).unwrap_or(own)
        })
    }

    /// Writes trace and baggage of this request, with this parent.
    fn write(&self, headers: &mut HeaderMap, parent: &TraceParent) {
        self.write_trace(headers, parent);
        self.write_baggage(headers);
    }

    /// Writes the trace of this request, with this parent.
    pub(crate) fn write_trace(&self, headers: &mut HeaderMap, parent: &TraceParent) {
        propagation::inject(headers, parent, self.0.trace.state.as_ref(), self.0.formats);
    }

    /// Writes the baggage of this request.
    pub(crate) fn write_baggage(&self, headers: &mut HeaderMap) {
        if let Some(baggage) = &self.0.baggage {
            propagation::inject_baggage(headers, baggage, self.0.formats);
        }
    }

    /// Writes the priority of this request, if it came with one, to the headers of a call out.
    pub(crate) fn write_priority(&self, headers: &mut HeaderMap) {
        if let Some(priority) = &self.0.caller.priority {
            headers.insert(PRIORITY_HEADER, priority.clone());
        }
    }

    /// Runs a future as part of this request: its log lines and spans belong to it, [`RequestContext::current`] finds it.
    ///
    /// For work that a handler spawns; the handler itself already runs so.
    pub fn scope<F: Future>(&self, future: F) -> Scope<F> {
        Scope { inner: future, context: self.clone() }
    }

    pub(crate) fn note_code(&self, code: tonic::Code) {
        self.0.web_code.store(code as u8, Ordering::Relaxed);
    }

    pub(crate) fn noted_code(&self) -> Option<tonic::Code> {
        let code = self.0.web_code.load(Ordering::Relaxed);
        (code != NO_CODE).then(|| tonic::Code::from_i32(code.into()))
    }

    pub(crate) fn note_failure(&self, word: &'static str) {
        let _ = self.0.failure.set(word);
    }

    /// How the caller speaks.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.0.protocol
    }

    /// When the request's head had arrived.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.0.started
    }
}

/// Makes a context the current one until dropped, then restores the former.
pub(crate) struct Entered {
    former: Option<RequestContext>,
}

impl Entered {
    pub(crate) fn enter(context: RequestContext) -> Self {
        Self { former: CURRENT.with(|cell| cell.replace(Some(context))) }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.with(|cell| cell.set(self.former.take()));
    }
}

pin_project_lite::pin_project! {
    /// See [`RequestContext::scope`].
    #[derive(Debug)]
    pub struct Scope<F> {
        #[pin]
        inner: F,
        context: RequestContext,
    }
}

impl<F: Future> Future for Scope<F> {
    type Output = F::Output;

    fn poll(self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<F::Output> {
        let this = self.project();
        let _entered = Entered::enter(this.context.clone());
        let trace = &this.context.0.trace;
        let _attached = trace.flags.is_sampled().then(|| trace.to_otel().attach());
        this.inner.poll(cx)
    }
}

impl fmt::Debug for RequestContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestContext")
            .field("trace_id", &self.0.trace.trace_id)
            .field("span_id", &self.0.trace.span_id)
            .field("protocol", &self.0.protocol)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(pairs: &[(&'static str, &str)], protocol: Protocol) -> Caller {
        let headers = pairs.iter().map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static("")))
        });
        Caller::read(&headers.collect(), protocol)
    }

    #[test]
    fn a_priority_is_a_token_of_at_most_32_bytes_and_anything_else_is_as_good_as_none() {
        let longest = "x".repeat(MAX_PRIORITY);
        for good in ["critical", "sheddable-plus", "P0", &longest] {
            assert_eq!(caller(&[("x-request-priority", good)], Protocol::Http).priority.as_ref().unwrap(), good);
        }
        let longer = "x".repeat(MAX_PRIORITY + 1);
        for bad in ["", "two words", "a,b", "\"quoted\"", &longer] {
            assert_eq!(caller(&[("x-request-priority", bad)], Protocol::Http).priority, None, "{bad:?}");
        }
    }

    #[test]
    fn the_attempts_before_are_read_from_the_header_of_the_protocol() {
        let both = [("x-previous-attempts", "2"), ("grpc-previous-rpc-attempts", "3")];
        assert_eq!(caller(&both, Protocol::Http).previous_attempts, 2);
        assert_eq!(caller(&both, Protocol::Grpc).previous_attempts, 3);
        for none in ["", "-1", "many", "99999999999"] {
            assert_eq!(caller(&[("x-previous-attempts", none)], Protocol::Http).previous_attempts, 0, "{none:?}");
        }
    }

    #[test]
    fn a_call_may_be_given_a_parent_of_its_own() {
        let trace = TraceContext {
            trace_id: TraceId::from(7),
            span_id: SpanId::from(9),
            parent_id: None,
            flags: TraceFlags::SAMPLED,
            state: None,
        };
        let context = RequestContext::of_trace(trace);
        let parent = |write: &dyn Fn(&mut HeaderMap)| {
            let mut headers = HeaderMap::new();
            write(&mut headers);
            headers["traceparent"].to_str().unwrap_or_default().split('-').nth(2).unwrap_or_default().to_owned()
        };
        assert_eq!(parent(&|headers| context.inject(headers)), "0000000000000009");
        assert_eq!(parent(&|headers| context.inject_as(headers, SpanId::from(0xb))), "000000000000000b");
    }
}
