//! One attempt: its span, its duration, its place in the endpoint's counts, and the headers that travel with it.

use std::{
    error::Error,
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
use tonic::{Code, Status};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    Attempts, ClientObserver, EndpointStats,
    note::CallNote,
    span::{self, Ending, Sent},
    timing::{Entered, Times},
};
use crate::{
    client::{
        Outcome, RequestBody, TimedOut,
        body::{Watch, WatchedBody},
        call::{Attempt, CallInfo},
        facts::Facts,
        hurry::{Dropped, Rest, excuses_error},
        outcome::{code_in, code_of_error, code_of_status},
    },
    clock,
    error::{BoxError, chain},
    telemetry::{metrics::code_name, sampling::new_span_id},
};

/// The word of an attempt whose answer broke off, or did not come at all on a connection that was there.
const BROKEN_OFF: &str = "broken_off";
/// The word of an attempt whose answer is larger than this side takes.
const TOO_LARGE: &str = "answer_too_large";
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
        let note = request.extensions().get::<CallInfo>().and_then(|info| info.passage.note.clone());
        let facts = Facts::of(&request);
        let call = note.unwrap_or_else(|| CallNote::alone(&self.observer, &request));
        let count = call.next_attempt();
        let number = request.extensions().get::<Attempt>().map_or(count, |attempt| attempt.previous);
        // Also of what is not recorded: the parent id is that of this attempt, and no two are one (W3C Trace Context,
        // "Mutating the traceparent Field").
        let span_id = new_span_id();
        self.observer.write_headers(request.headers_mut(), &call, span_id);
        self.endpoint.begin();
        let started = clock::tokio_now();
        // The layers between may have shortened what the call began with.
        let deadline = facts.deadline.into_iter().chain(call.deadline).min();
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
            rest: Rest::of(&Facts { deadline, ..facts }),
            status: 0,
            version: Version::HTTP_11,
            code: None,
            message: None,
            recorded,
            head_after: None,
            closed: false,
            settled: false,
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
    /// Decides with the breaker and the balancer, which have their own, whether the endpoint is at fault.
    rest: Rest,
    /// 0 until the head of the answer is there.
    status: u16,
    version: Version,
    code: Option<Code>,
    /// The text that a gRPC endpoint, or a proxy before it, gave with the code.
    message: Option<Box<str>>,
    recorded: Option<Box<Recorded>>,
    /// How long the head of an HTTP answer took whose body is still to come.
    head_after: Option<Duration>,
    /// The span and the duration have ended.
    closed: bool,
    /// The endpoint has counted it.
    settled: bool,
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
        let excused = self.rest.head(&response);
        let Some(outcome) = outcome else {
            return response.map(|body| WatchedBody::new(body, AttemptWatch(self)));
        };
        if self.call.called.is_grpc() {
            self.code = code_in(response.headers()).or(Some(code_of_status(self.status)));
            self.message = message_in(response.headers());
        }
        if outcome == Outcome::Success && !self.call.called.is_grpc() && !response.body().is_end_stream() {
            // The conventions' span and metric end here; of the endpoint the body has yet to say what it says to the breaker.
            let elapsed = self.elapsed();
            self.head_after = Some(elapsed);
            self.close(None, elapsed);
            return response.map(|body| WatchedBody::new(body, AttemptWatch(self)));
        }
        self.end(Some(outcome).filter(|_| !excused), None, None);
        response.map(WatchedBody::unwatched)
    }

    fn failed(&mut self, error: &BoxError) {
        let outcome = Outcome::of_error(error);
        let word = match outcome {
            // The endpoint has answered, and a limit of this side stops the answer.
            Outcome::Success => TOO_LARGE,
            Outcome::Failed | Outcome::Throttled => BROKEN_OFF,
            Outcome::Refused(_) | Outcome::TimedOut | Outcome::Unreachable | Outcome::Untouched => outcome.as_str(),
        };
        self.code = Some(code_of_error(&**error));
        let excused = excuses_error(error);
        if excused {
            self.note_place();
        }
        self.end(Some(outcome).filter(|_| !excused), Some(word), Some(&**error));
    }

    /// The attempt is over. Without an outcome it says nothing of the endpoint: it was given up, or it had too little time.
    /// The word is why, where status or code do not say it.
    fn end(&mut self, outcome: Option<Outcome>, word: Option<&'static str>, error: Option<&(dyn Error + 'static)>) {
        let elapsed = self.head_after.unwrap_or_else(|| self.elapsed());
        self.settle(outcome, elapsed, error);
        self.close(word, elapsed);
    }

    fn elapsed(&self) -> Duration {
        clock::tokio_now().saturating_duration_since(self.started)
    }

    /// Counts the attempt among those of its endpoint.
    fn settle(&mut self, outcome: Option<Outcome>, elapsed: Duration, error: Option<&(dyn Error + 'static)>) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        self.endpoint.end(outcome, elapsed);
        // What was held back on this side says nothing of the endpoint.
        if let Some(outcome) = outcome.filter(|outcome| !matches!(outcome, Outcome::Success | Outcome::Refused(_))) {
            self.note_failure(outcome, error);
        }
    }

    /// Ends the span and the duration.
    fn close(&mut self, word: Option<&'static str>, elapsed: Duration) {
        if std::mem::replace(&mut self.closed, true) {
            return;
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

    /// The call's log line names this endpoint.
    #[cold]
    fn note_place(&self) {
        *self.call.failed_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&self.endpoint));
    }

    #[cold]
    fn note_failure(&self, outcome: Outcome, error: Option<&(dyn Error + 'static)>) {
        self.note_place();
        let message = match (error, self.code) {
            (Some(error), _) if self.head_after.is_some() => {
                format!("{}, and the answer broke off: {}", self.status, chain(error))
            }
            (Some(error), _) => chain(error),
            (None, _) if outcome == Outcome::TimedOut => TimedOut.to_string(),
            (None, Some(code)) => match &self.message {
                Some(message) => format!("{}: {message}", code_name(code)),
                None => code_name(code).to_owned(),
            },
            (None, None) if self.status != 0 => self.status.to_string(),
            (None, None) => outcome.as_str().to_owned(),
        };
        self.endpoint.failed(message, self.call.parent.trace_id);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let now = clock::tokio_now();
        let late = self.deadline.is_some_and(|deadline| deadline <= now);
        self.code = Some(if late { Code::DeadlineExceeded } else { Code::Cancelled });
        let word = if late { Outcome::TimedOut.as_str() } else { CANCELLED };
        let outcome = match self.rest.dropped(now.into_std()) {
            // Given up from outside: no timer of the stack has ended it.
            _ if self.status == 0 => None,
            Dropped::Late => Some(Outcome::TimedOut),
            // The head of an HTTP answer has said all that its reader wanted.
            Dropped::InTime => self.head_after.map(|_| Outcome::Success),
            Dropped::Hurried => None,
        };
        self.end(outcome, Some(word), None);
    }
}

/// Waits for the end of an answer.
#[derive(Debug)]
pub struct AttemptWatch(Record);

impl Watch for AttemptWatch {
    fn data(&mut self) {
        self.0.rest.data();
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        if !self.0.call.called.is_grpc() {
            return;
        }
        self.0.code = code_in(trailers);
        self.0.message = message_in(trailers);
        let word = if self.0.code.is_some() { None } else { Some(BROKEN_OFF) };
        let excused = self.0.rest.excuses(trailers);
        self.0.end(Some(Outcome::of_trailers(trailers)).filter(|_| !excused), word, None);
    }

    fn complete(mut self) {
        match self.0.call.called.is_grpc() {
            // Without trailers, the stream was cut short.
            true => self.0.end(Some(Outcome::Failed), Some(BROKEN_OFF), None),
            false => self.0.end(Some(Outcome::Success), None, None),
        }
    }

    fn broke_off(mut self, error: Option<&(dyn Error + 'static)>) {
        self.0.code = Some(error.map_or(Code::Unavailable, code_of_error));
        self.0.end(Some(Outcome::Failed), Some(BROKEN_OFF), error);
    }
}

/// The text of a failure in the head or the trailers of a gRPC answer.
fn message_in(headers: &HeaderMap) -> Option<Box<str>> {
    let status = Status::from_header_map(headers).filter(|status| status.code() != Code::Ok)?;
    (!status.message().is_empty()).then(|| status.message().into())
}
