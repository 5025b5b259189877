//! The time of a call: all of it, and that of one attempt.
//!
//! [`DeadlineLayer`] stands outermost. A call's deadline is the earliest of its own, of the request being served less a
//! margin, and of a `grpc-timeout` that the caller wrote. A call whose time is up is not sent; one whose time ends is dropped with all that
//! it has under way, so that the endpoint hears that nobody waits any more. A gRPC answer that goes on ends at the deadline
//! with DEADLINE_EXCEEDED, as a stream of a gRPC client does; an HTTP answer may be streamed for longer, and who reads it
//! limits that.
//!
//! [`AttemptTimeoutLayer`] stands next to the endpoint, so that the breaker and the balancer see an attempt that took too
//! long. The call's deadline ends an attempt there as well: else an endpoint that never answers would never be at fault. Of an
//! attempt that its call left less than twice the time that the endpoint needs, that says nothing of the endpoint; nor of one
//! that had less than a second and found no connection.
//! An attempt's time that is longer than what is left of the call's is no mistake, and has no effect.
//!
//! [`announce`] tells the endpoint what is left of the call, just before an attempt is sent: what earlier attempts and waits
//! took is then gone. The attempt's own time is not told: it ends with the head of the answer, and an endpoint that took it
//! for its deadline would cut the body off.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Buf as _;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    body::RequestBody,
    call::{CallInfo, Departure},
    error::NotSent,
    facts::Facts,
    hurry::{Hurried, Hurry, Pace},
    outcome::{Outcome, TimedOut, Unconnected},
};
use crate::{
    cause::Cause,
    clock,
    context::{Protocol, RequestContext},
    deadline::{GRPC_TIMEOUT, TIMEOUT_HEADER, grpc_timeout}, // floor: one name and one grammar for both ends
    error::BoxError,
};

/// The longest time that [`TIMEOUT_HEADER`] can say: ten digits of milliseconds, 115 days.
const MAX_ANNOUNCED_MILLIS: u128 = 9_999_999_999;
/// How much of a gRPC answer is handed on after the deadline: what may lie ready then, which is hyper's window of a stream.
const LATE_LIMIT: usize = 2 * 1024 * 1024;
/// What a frame of it weighs at least, so that empty ones come to an end. Chosen: 2,048 of them.
const LATE_FRAME: usize = 1024;
/// The share of a request's remaining time that its calls out leave to its handler. Chosen: a twentieth, which no call misses.
const MARGIN_SHARE: u32 = 20;
/// The most that they leave. Chosen: a handler that has to write an answer needs no longer, on a loaded machine either.
const MARGIN_MAX: Duration = Duration::from_millis(50);
/// A call with less time than this says nothing of an endpoint to which it found no connection: a SYN that is lost is sent
/// again after 1 s (RFC 6298, section 2).
const CONNECTING: Duration = Duration::from_secs(1);
/// As many digits as `grpc-timeout` may have (gRPC over HTTP/2, "Timeout").
const MAX_GRPC_DIGITS: u128 = 99_999_999;

/// Tells the endpoint how much time it has: `grpc-timeout` or `x-request-timeout-ms`.
///
/// Rounded down, so that it never works longer than it is waited for: gRPC to the smallest unit that has room, HTTP to
/// the millisecond.
///
/// # Errors
///
/// [`Cause::DeadlineExceeded`]: nothing is left, or less than the header can say. Nobody would wait for the answer.
pub fn announce(headers: &mut HeaderMap, protocol: Protocol, left: Duration) -> Result<(), NotSent> {
    match protocol {
        Protocol::Http => {
            let millis = left.as_millis().min(MAX_ANNOUNCED_MILLIS);
            if millis == 0 {
                return Err(expired());
            }
            headers.insert(TIMEOUT_HEADER, HeaderValue::from(u64::try_from(millis).unwrap_or(u64::MAX)));
        }
        Protocol::Grpc | Protocol::GrpcWeb => {
            if left.is_zero() {
                return Err(expired());
            }
            headers.insert(GRPC_TIMEOUT, grpc_value(left));
        }
    }
    Ok(())
}

/// Tells the endpoint what is left of this call, unless it is not to be told.
///
/// # Errors
///
/// As [`announce`]: nothing is left.
pub(super) fn announce_left(headers: &mut HeaderMap, call: &Facts) -> Result<(), NotSent> {
    let Some(deadline) = call.deadline.filter(|_| !call.streamed) else { return Ok(()) };
    let left = deadline.saturating_duration_since(clock::tokio_now());
    match call.hides_time {
        false => announce(headers, call.protocol, left),
        true if left.is_zero() => Err(expired()),
        true => Ok(()),
    }
}

/// The finest unit in which the time has no more than eight digits.
fn grpc_value(left: Duration) -> HeaderValue {
    const UNITS: [(u128, char); 6] = [
        (1, 'n'),
        (1_000, 'u'),
        (1_000_000, 'm'),
        (1_000_000_000, 'S'),
        (60_000_000_000, 'M'),
        (3_600_000_000_000, 'H'),
    ];
    let nanos = left.as_nanos();
    let (number, unit) = UNITS
        .iter()
        .map(|(scale, unit)| (nanos / scale, *unit))
        .find(|(number, _)| *number <= MAX_GRPC_DIGITS)
        .unwrap_or((MAX_GRPC_DIGITS, 'H'));
    let mut text = [0u8; 9];
    let mut rest = &mut text[..];
    // Nine bytes hold eight digits and the unit.
    let _ = std::io::Write::write_fmt(&mut rest, format_args!("{number}{unit}"));
    let unused = rest.len();
    HeaderValue::from_bytes(&text[..9 - unused]).unwrap_or_else(|_| HeaderValue::from_static("0n"))
}

/// The deadline of a call for a request with this one: a little earlier, so that the handler can still answer with what the
/// call came to. With equal deadlines, that answer and the request's own refusal race each other.
fn ahead_of(request: Instant, now: Instant) -> Instant {
    let margin = request.saturating_duration_since(now) / MARGIN_SHARE;
    request.checked_sub(margin.min(MARGIN_MAX)).unwrap_or(request)
}

#[cold]
fn expired() -> NotSent {
    NotSent::new(Cause::DeadlineExceeded).detail("the time was up before the call was sent")
}

/// The time of whole calls. See the [module](self).
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct DeadlineLayer;

impl DeadlineLayer {
    /// The layer; it has no settings, since each call brings its own deadline.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Deadline<S> {
        Deadline { inner }
    }
}

/// See [`DeadlineLayer`].
#[derive(Debug, Clone)]
pub struct Deadline<S> {
    inner: S,
}

impl<S, B> Service<Request<RequestBody>> for Deadline<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = BoxError>,
    B: Body,
{
    type Response = Response<DeadlineBody<B>>;
    type Error = BoxError;
    type Future = DeadlineFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<RequestBody>) -> Self::Future {
        let facts = Facts::of(&request);
        let now = clock::tokio_now();
        let inherited = match request.extensions().get::<RequestContext>() {
            Some(context) => context.deadline(),
            None => RequestContext::with_current(|context| context.and_then(RequestContext::deadline)),
        };
        let inherited = inherited.map(|deadline| ahead_of(Instant::from_std(deadline), now));
        // A time beyond what the clock can say is no limit.
        let written = match facts.protocol {
            Protocol::Http => None,
            Protocol::Grpc | Protocol::GrpcWeb => {
                request.headers().get(GRPC_TIMEOUT).and_then(|value| grpc_timeout(value.as_bytes()))
            }
        };
        let written = written.and_then(|timeout| now.checked_add(timeout));
        let deadline = facts.deadline.into_iter().chain(inherited).chain(written).min();
        if deadline.is_some_and(|deadline| deadline <= now) {
            return DeadlineFuture::new(None, deadline, facts.protocol);
        }
        CallInfo::with(&mut request, |info| {
            info.deadline = deadline;
            info.passage.timed = true;
        });
        DeadlineFuture::new(Some(self.inner.call(request)), deadline, facts.protocol)
    }
}

pin_project! {
    /// The answer, or [`TimedOut`]; [`NotSent`] when the time was up before. Dropped, the call ends.
    pub struct DeadlineFuture<F> {
        #[pin]
        inner: Option<F>,
        deadline: Option<Instant>,
        protocol: Protocol,
        // Not before the first wait: a call that is answered at once registers no timer.
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl<F> DeadlineFuture<F> {
    fn new(inner: Option<F>, deadline: Option<Instant>, protocol: Protocol) -> Self {
        Self { inner, deadline, protocol, sleep: None }
    }
}

impl<F, B> Future for DeadlineFuture<F>
where
    F: Future<Output = Result<Response<B>, BoxError>>,
    B: Body,
{
    type Output = Result<Response<DeadlineBody<B>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(mut inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(Err(Box::new(expired()))) };
        // The inside first: it knows better what the time went to.
        let mut polled = inner.as_mut().poll(cx);
        if polled.is_pending() {
            let Some(deadline) = *this.deadline else { return Poll::Pending };
            if clock::tokio_now() < deadline {
                if this.sleep.is_none() {
                    this.sleep.set(Some(tokio::time::sleep_until(deadline)));
                }
                if this.sleep.as_pin_mut().is_some_and(|sleep| sleep.poll(cx).is_pending()) {
                    return Poll::Pending;
                }
                // It was not this late when the inside was asked.
                clock::not_before(deadline.into_std());
                polled = inner.poll(cx);
            }
        }
        if let Poll::Ready(result) = polled {
            let covered = this.deadline.filter(|_| *this.protocol != Protocol::Http);
            return Poll::Ready(result.map(|response| response.map(|body| DeadlineBody::new(body, covered))));
        }
        // What is under way ends here, before the error is looked at.
        this.inner.set(None);
        Poll::Ready(Err(Box::new(TimedOut)))
    }
}

impl<F> fmt::Debug for DeadlineFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadlineFuture").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

pin_project! {
    /// The body of an answer that ends at the deadline, if it is gRPC's.
    pub struct DeadlineBody<B> {
        #[pin]
        inner: Option<B>,
        // None as well when the end was told.
        deadline: Option<Instant>,
        // What was handed on after the deadline.
        late: usize,
        // Boxed, because the body of an HTTP answer has none, and few others live until they need it.
        sleep: Option<Pin<Box<Sleep>>>,
    }
}

impl<B: Body> DeadlineBody<B> {
    fn new(inner: B, deadline: Option<Instant>) -> Self {
        Self { inner: Some(inner), deadline, late: 0, sleep: None }
    }
}

impl<B: Body> Body for DeadlineBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let Some(mut inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        let Some(deadline) = *this.deadline else { return inner.poll_frame(cx) };
        // What lies ready is no less the answer because its reader came late. A stream that always has something to tell
        // must meet its deadline all the same.
        if *this.late < LATE_LIMIT
            && let Poll::Ready(polled) = inner.as_mut().poll_frame(cx)
        {
            let over = clock::tokio_now() >= deadline;
            if over {
                let size = polled.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
                *this.late += size.map_or(0, |data| data.remaining()).max(LATE_FRAME);
            }
            let ended = match &polled {
                Some(Ok(frame)) => frame.is_trailers() || inner.is_end_stream(),
                Some(Err(_)) | None => true,
            };
            if ended {
                // There is one end.
                *this.deadline = None;
            }
            // After the deadline, a stream that is cut short is cut short by that.
            if !over || matches!(polled, Some(Ok(_))) {
                return Poll::Ready(polled);
            }
        } else if clock::tokio_now() < deadline {
            let sleep = this.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        // The stream ends here, and the endpoint hears of it.
        this.inner.set(None);
        Poll::Ready(Some(Ok(Frame::trailers(deadline_exceeded()))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

fn deadline_exceeded() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert("grpc-status", HeaderValue::from_static("4"));
    trailers.insert("grpc-message", HeaderValue::from_static("the time of the call was up within the answer"));
    trailers
}

impl<B: fmt::Debug> fmt::Debug for DeadlineBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadlineBody").field("inner", &self.inner).field("deadline", &self.deadline).finish()
    }
}

/// How long an attempt may take until the head of its answer; shared by all endpoints of a destination, changed while in
/// use.
#[derive(Debug, Clone)]
pub struct AttemptTimeout(Arc<AtomicU64>);

/// No limit.
const NONE: u64 = u64::MAX;

impl AttemptTimeout {
    /// This long; `None` for as long as the call may take.
    #[must_use]
    pub fn new(timeout: Option<Duration>) -> Self {
        let this = Self(Arc::new(AtomicU64::new(NONE)));
        this.configure(timeout);
        this
    }

    /// This long from the next attempt on.
    pub fn configure(&self, timeout: Option<Duration>) {
        let nanos = timeout.map_or(NONE, |timeout| u64::try_from(timeout.as_nanos()).unwrap_or(NONE));
        self.0.store(nanos, Relaxed);
    }

    /// How long it is now.
    #[must_use]
    pub fn get(&self) -> Option<Duration> {
        let nanos = self.0.load(Relaxed);
        (nanos != NONE).then(|| Duration::from_nanos(nanos))
    }
}

/// The time of one attempt. See the [module](self).
#[derive(Debug, Clone)]
pub struct AttemptTimeoutLayer {
    timeout: AttemptTimeout,
    connects: bool,
}

impl AttemptTimeoutLayer {
    /// With the time that this holds.
    #[must_use]
    pub fn new(timeout: AttemptTimeout) -> Self {
        Self { timeout, connects: false }
    }

    /// The service inside is a pool, and it can be seen when a request has a connection or is written to one: an
    /// attempt whose time is up before was never sent, and its endpoint is unreachable.
    #[must_use]
    pub(crate) fn around_a_pool(self) -> Self {
        Self { connects: true, ..self }
    }
}

impl<S> Layer<S> for AttemptTimeoutLayer {
    type Service = AttemptTimeoutService<S>;

    fn layer(&self, inner: S) -> AttemptTimeoutService<S> {
        AttemptTimeoutService { inner, layer: self.clone(), pace: Arc::default() }
    }
}

/// See [`AttemptTimeoutLayer`].
#[derive(Debug, Clone)]
pub struct AttemptTimeoutService<S> {
    inner: S,
    layer: AttemptTimeoutLayer,
    pace: Arc<Pace>,
}

impl<S, B> Service<Request<RequestBody>> for AttemptTimeoutService<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = BoxError>,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = AttemptFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<RequestBody>) -> Self::Future {
        let started = clock::tokio_now();
        let connects = self.layer.connects;
        let (facts, timed, sending) = CallInfo::with(&mut request, |info| {
            let sending = if connects { Sending::departs(info) } else { Sending::Unseen };
            (Facts::told(info), info.passage.timed, sending)
        });
        let own = self.layer.timeout.get().and_then(|timeout| started.checked_add(timeout));
        let left = facts.deadline.map(|deadline| deadline.saturating_duration_since(started));
        AttemptFuture {
            sending,
            inner: Some(self.inner.call(request)),
            deadline: own.into_iter().chain(facts.deadline).min(),
            call: facts.deadline,
            protocol: facts.protocol,
            started,
            hurried: left.is_some_and(|left| self.pace.hurries(left)),
            brief: left.is_some_and(|left| left < CONNECTING),
            pace: Arc::clone(&self.pace),
            // Of two timers for the same moment one is enough to wake the task, and the outer layer asks this one first. Only
            // next to a pool, where both are of one stack and in one task.
            sleeps: !(timed && connects) || own.is_some(),
            sleep: None,
        }
    }
}

pin_project! {
    /// The answer of an attempt, or [`TimedOut`]. Dropped, the attempt ends.
    pub struct AttemptFuture<F> {
        #[pin]
        inner: Option<F>,
        deadline: Option<Instant>,
        // The call's own.
        call: Option<Instant>,
        protocol: Protocol,
        started: Instant,
        hurried: bool,
        // The call left it less time than a connection may take.
        brief: bool,
        pace: Arc<Pace>,
        sending: Sending,
        sleeps: bool,
        // Boxed, because few attempts have a time of their own.
        sleep: Option<Pin<Box<Sleep>>>,
    }
}

impl<F, B> Future for AttemptFuture<F>
where
    F: Future<Output = Result<Response<B>, BoxError>>,
{
    type Output = Result<Response<B>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let polled = this.inner.as_mut().as_pin_mut().map(|inner| inner.poll(cx));
        match polled {
            Some(Poll::Ready(mut result)) => {
                if let Ok(response) = &mut result {
                    if matches!(Outcome::of_head(*this.protocol, response), None | Some(Outcome::Success)) {
                        this.pace.answered(clock::tokio_now().saturating_duration_since(*this.started));
                    }
                    if *this.hurried {
                        response.extensions_mut().insert(Hurry);
                    }
                }
                return Poll::Ready(result);
            }
            Some(Poll::Pending) if !is_over(*this.deadline, *this.sleeps, this.sleep, cx) => return Poll::Pending,
            _ => {}
        }
        // Asked before the request is dropped with the rest.
        let sent = this.sending.may_have_begun();
        this.inner.set(None);
        // At the attempt's own time it was this side's word that it takes too long.
        let over = this.call.is_some_and(|deadline| deadline <= clock::tokio_now());
        let error: BoxError = if sent { Box::new(TimedOut) } else { Box::new(Unconnected { over }) };
        let excused = over && (*this.hurried || (!sent && *this.brief));
        Poll::Ready(Err(if excused { Box::new(Hurried(error)) } else { error }))
    }
}

/// How it is known whether a request was sent.
#[derive(Debug)]
enum Sending {
    /// It is not.
    Unseen,
    /// By what the pool says. Of what may be sent twice: once it is written to its connection, which may still take it between
    /// a look at this and the end of the request. Of anything else: once it is handed to a connection, and until that hands it
    /// back.
    Departs(Arc<AtomicBool>),
}

impl Sending {
    fn departs(call: &mut CallInfo) -> Self {
        let gone = Arc::default();
        let twice = call.idempotent;
        call.passage.departure = if twice { Departure::telling(&gone) } else { Departure::telling_at_once(&gone) };
        Self::Departs(gone)
    }

    fn may_have_begun(&self) -> bool {
        match self {
            Self::Unseen => true,
            Self::Departs(gone) => gone.load(Relaxed),
        }
    }
}

/// Whether the time is up; if not, the task is woken when it is, unless another timer does that.
///
/// The clock is asked and not the timer alone: of several timers that end together the outermost may be the first to wake
/// the task, and the inner layers have to see that theirs is up too.
fn is_over(deadline: Option<Instant>, sleeps: bool, sleep: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> bool {
    let Some(deadline) = deadline else { return false };
    if clock::tokio_now() >= deadline {
        return true;
    }
    if !sleeps {
        return false;
    }
    sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline))).as_mut().poll(cx).is_ready()
}

impl<F> fmt::Debug for AttemptFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttemptFuture").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
