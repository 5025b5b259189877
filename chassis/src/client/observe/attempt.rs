//! One attempt: its span, its duration, its place in the endpoint's counts, and the headers that travel with it.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderMap, Request, Response, Version};
use hyper_util::client::legacy::connect::HttpInfo;
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tonic::Code;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    Attempts, ClientObserver, EndpointStats, chain,
    note::CallNote,
    span::{self, Ending, Sent},
    timing::{Entered, Times},
};
use crate::{
    cause::Cause,
    client::{
        Outcome, RequestBody, TimedOut,
        body::{Watch, WatchedBody},
        call::{Attempt, CallInfo},
    },
    clock,
    error::BoxError,
    telemetry::{
        metrics::{code_name, code_of_status},
        sampling::new_span_id,
    },
};

/// The word of an attempt whose answer broke off, or did not come at all on a connection that was there.
const BROKEN_OFF: &str = "broken_off";
/// The word of an attempt or a call that was given up by whoever made it.
pub(super) const CANCELLED: &str = "cancelled";

/// Observes each attempt at one endpoint, and writes what travels with it. Inside the breaker, outside the attempt's
/// timeout.
#[derive(Debug, Clone)]
pub struct AttemptLayer {
    observer: Arc<ClientObserver>,
    endpoint: Arc<EndpointStats>,
}

impl AttemptLayer {
    /// For the attempts at this endpoint.
    #[must_use]
    pub fn new(observer: Arc<ClientObserver>, endpoint: Arc<EndpointStats>) -> Self {
        Self { observer, endpoint }
    }
}

impl<S> Layer<S> for AttemptLayer {
    type Service = AttemptService<S>;

    fn layer(&self, inner: S) -> AttemptService<S> {
        AttemptService { inner, observer: Arc::clone(&self.observer), endpoint: Arc::clone(&self.endpoint) }
    }
}

/// See [`AttemptLayer`].
#[derive(Debug, Clone)]
pub struct AttemptService<S> {
    inner: S,
    observer: Arc<ClientObserver>,
    endpoint: Arc<EndpointStats>,
}

impl<S> AttemptService<S> {
    /// What the attempts at its endpoint came to.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<EndpointStats> {
        &self.endpoint
    }
}

impl<S, B> Service<Request<RequestBody>> for AttemptService<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = BoxError>,
    B: http_body::Body,
{
    type Response = Response<WatchedBody<B, AttemptWatch>>;
    type Error = BoxError;
    type Future = AttemptFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<RequestBody>) -> Self::Future {
        // Without a call's layer around it, an attempt is all there is of the call.
        let info = request.extensions().get::<CallInfo>();
        let note = info.and_then(|info| info.passage.note.clone());
        // The layers between may have shortened what the call began with.
        let deadline = info.and_then(|info| info.deadline);
        let call = note.unwrap_or_else(|| CallNote::alone(&self.observer, &request));
        let count = call.next_attempt();
        let number = request.extensions().get::<Attempt>().map_or(count, |attempt| attempt.previous);
        // Also of what is not recorded: the parent id is that of this attempt, and no two are one (W3C Trace Context,
        // "Mutating the traceparent Field").
        let span_id = new_span_id();
        self.observer.write_headers(request.headers_mut(), &call, span_id);
        self.endpoint.begin();
        let started = clock::tokio_now();
        let deadline = deadline.into_iter().chain(call.deadline).min();
        let recorded = call.recorded.then(|| {
            let sent = Sent::new(request.uri(), &self.endpoint, span_id, number);
            Box::new(Recorded { sent, peer: None, times: Arc::new(Times::new(started)) })
        });
        let record = Record {
            observer: Arc::clone(&self.observer),
            endpoint: Arc::clone(&self.endpoint),
            call,
            started,
            deadline,
            status: 0,
            version: Version::HTTP_11,
            code: None,
            recorded,
            ended: false,
        };
        // The pool may ask for a connection before it is polled.
        let entered = record.times().map(Entered::enter);
        let inner = self.inner.call(request);
        drop(entered);
        AttemptFuture { inner, record: Some(record) }
    }
}

pin_project! {
    /// An attempt under way; dropped before its answer, it was given up.
    pub struct AttemptFuture<F> {
        #[pin]
        inner: F,
        record: Option<Record>,
    }
}

impl<F, B> Future for AttemptFuture<F>
where
    F: Future<Output = Result<Response<B>, BoxError>>,
    B: http_body::Body,
{
    type Output = Result<Response<WatchedBody<B, AttemptWatch>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let entered = this.record.as_ref().and_then(Record::times).map(Entered::enter);
        let polled = this.inner.poll(cx);
        drop(entered);
        let result = ready!(polled);
        // Polled after completion, which the contract of Future leaves to the caller, there is nothing left to observe.
        let record = this.record.take();
        Poll::Ready(match (result, record) {
            (Ok(response), Some(record)) => Ok(record.answered(response)),
            (Ok(response), None) => Ok(response.map(WatchedBody::unwatched)),
            (Err(error), record) => {
                if let Some(mut record) = record {
                    record.failed(&error);
                }
                Err(error)
            }
        })
    }
}

impl<F> std::fmt::Debug for AttemptFuture<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AttemptFuture").finish_non_exhaustive()
    }
}

/// What only an attempt whose span is kept has.
#[derive(Debug)]
struct Recorded {
    sent: Sent,
    peer: Option<SocketAddr>,
    times: Arc<Times>,
}

/// One attempt being observed. Dropping it is its end, however that comes.
#[derive(Debug)]
struct Record {
    observer: Arc<ClientObserver>,
    endpoint: Arc<EndpointStats>,
    call: CallNote,
    started: Instant,
    /// When it is given up.
    deadline: Option<Instant>,
    /// 0 until the head of the answer is there.
    status: u16,
    version: Version,
    code: Option<Code>,
    recorded: Option<Box<Recorded>>,
    ended: bool,
}

impl Record {
    fn times(&self) -> Option<&Arc<Times>> {
        self.recorded.as_ref().map(|recorded| &recorded.times)
    }

    /// The head of the answer is there.
    fn answered<B: http_body::Body>(mut self, response: Response<B>) -> Response<WatchedBody<B, AttemptWatch>> {
        self.status = response.status().as_u16();
        self.version = response.version();
        if let Some(recorded) = &mut self.recorded {
            recorded.times.received();
            recorded.peer = response.extensions().get::<HttpInfo>().map(HttpInfo::remote_addr);
        }
        let outcome = Outcome::of_head(self.call.called.protocol(), &response);
        let Some(outcome) = outcome else {
            return response.map(|body| WatchedBody::new(body, AttemptWatch(self)));
        };
        if self.call.called.is_grpc() {
            self.code = code_in(response.headers()).or(Some(code_of_status(self.status)));
        }
        self.end(Some(outcome), None, None);
        response.map(WatchedBody::unwatched)
    }

    fn failed(&mut self, error: &BoxError) {
        let outcome = Outcome::of_error(error);
        let (code, word) = match outcome {
            Outcome::Refused(cause) => (cause.grpc_code(), cause.as_str()),
            Outcome::TimedOut => (Code::DeadlineExceeded, outcome.as_str()),
            Outcome::Unreachable | Outcome::Untouched => (Cause::NoEndpoints.grpc_code(), outcome.as_str()),
            // What gRPC makes of a connection that was lost.
            _ => (Code::Unavailable, BROKEN_OFF),
        };
        self.code = Some(code);
        self.end(Some(outcome), Some(word), Some(error));
    }

    /// The attempt is over; without an outcome it was given up. The word is why, where status or code do not say it.
    fn end(&mut self, outcome: Option<Outcome>, word: Option<&'static str>, error: Option<&BoxError>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let elapsed = clock::tokio_now().saturating_duration_since(self.started);
        self.endpoint.end(outcome, elapsed);
        // What was held back on this side says nothing of the endpoint.
        if let Some(outcome) = outcome.filter(|outcome| !matches!(outcome, Outcome::Success | Outcome::Refused(_))) {
            self.note_failure(outcome, error);
        }
        let (call, seconds) = (&self.call, elapsed.as_secs_f64());
        let code = self.code.unwrap_or(Code::Unknown);
        let own = self.recorded.as_ref().map(|recorded| (call.parent.trace_id, recorded.sent.span_id()));
        let port = self.observer.port_of(&self.endpoint);
        let ending = match &call.called.attempts {
            Attempts::Http(series) => {
                let make =
                    |port| self.observer.metrics.http_attempts(&self.observer.destination, port, call.called.method);
                series.of(port, make).record(self.status, self.version, word, seconds, own);
                Ending::Http(self.status, self.version)
            }
            Attempts::Rpc(series) => {
                let make =
                    |port| self.observer.metrics.rpc_attempts(&self.observer.destination, port, &call.called.name);
                series.of(port, make).record(code, word, seconds, own);
                Ending::Grpc(code)
            }
        };
        if let Some(recorded) = self.recorded.take() {
            self.export(*recorded, ending, word, elapsed);
        }
    }

    #[cold]
    fn export(&self, recorded: Recorded, ending: Ending, word: Option<&'static str>, elapsed: Duration) {
        let Recorded { sent, peer, times } = recorded;
        let seen = span::Seen { endpoint: &self.endpoint, sent, times: &times, peer, ending, error_type: word };
        self.observer.spans.export(span::attempt(&self.observer, &self.call, seen, elapsed));
    }

    #[cold]
    fn note_failure(&self, outcome: Outcome, error: Option<&BoxError>) {
        *self.call.failed_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&self.endpoint));
        let message = match (error, self.code) {
            (Some(error), _) => chain(&**error),
            (None, _) if outcome == Outcome::TimedOut => TimedOut.to_string(),
            (None, Some(code)) => code_name(code).to_owned(),
            (None, None) if self.status != 0 => self.status.to_string(),
            (None, None) => outcome.as_str().to_owned(),
        };
        self.endpoint.failed(message, self.call.parent.trace_id);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // Given up when its time was up, it is the endpoint that was too slow.
        let late = self.deadline.is_some_and(|deadline| deadline <= clock::tokio_now());
        self.code = Some(if late { Code::DeadlineExceeded } else { Code::Cancelled });
        let word = if late { Outcome::TimedOut.as_str() } else { CANCELLED };
        self.end(late.then_some(Outcome::TimedOut), Some(word), None);
    }
}

/// Waits for the end of an answer over gRPC.
#[derive(Debug)]
pub struct AttemptWatch(Record);

impl Watch for AttemptWatch {
    fn trailers(&mut self, trailers: &HeaderMap) {
        self.0.code = code_in(trailers);
        let word = if self.0.code.is_some() { None } else { Some(BROKEN_OFF) };
        self.0.end(Some(Outcome::of_trailers(trailers)), word, None);
    }

    fn complete(mut self) {
        // Without trailers, the stream was cut short.
        self.0.end(Some(Outcome::Failed), Some(BROKEN_OFF), None);
    }

    fn broke_off(mut self) {
        self.0.code = Some(Code::Unavailable);
        self.0.end(Some(Outcome::Failed), Some(BROKEN_OFF), None);
    }
}

/// The gRPC code in headers or trailers.
pub(super) fn code_in(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()))
}
