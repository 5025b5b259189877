//! A whole call: its span, its duration, and its log line when it failed.

use std::{
    error::Error,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
};

use http::{HeaderMap, Request, Response, Version};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tonic::Code;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    ClientObserver,
    attempt::CANCELLED,
    line,
    note::CallNote,
    span::{self, Ending},
};
use crate::{
    client::{
        Outcome, RequestBody,
        body::{Watch, WatchedBody},
        call::CallInfo,
        outcome::{code_in, code_of_error, code_of_status},
    },
    clock,
    error::{BoxError, chain},
    telemetry::metrics::code_name,
};

/// Observes each call to one destination: all of its attempts, waits and refusals. The outermost layer.
#[derive(Debug, Clone)]
pub struct CallLayer {
    observer: Arc<ClientObserver>,
}

impl CallLayer {
    /// For the calls to the observer's destination.
    #[must_use]
    pub fn new(observer: Arc<ClientObserver>) -> Self {
        Self { observer }
    }
}

impl<S> Layer<S> for CallLayer {
    type Service = CallService<S>;

    fn layer(&self, inner: S) -> CallService<S> {
        CallService { inner, observer: Arc::clone(&self.observer) }
    }
}

/// See [`CallLayer`].
#[derive(Debug, Clone)]
pub struct CallService<S> {
    inner: S,
    observer: Arc<ClientObserver>,
}

impl<S, B> Service<Request<RequestBody>> for CallService<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = BoxError>,
    B: http_body::Body,
{
    type Response = Response<WatchedBody<B, CallWatch>>;
    type Error = BoxError;
    type Future = CallFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<RequestBody>) -> Self::Future {
        let started = clock::tokio_now();
        let call = CallNote::begin(&self.observer, &request);
        let streamed = CallInfo::with(&mut request, |info| {
            info.passage.note = Some(call.clone());
            info.passage.streamed
        });
        let observer = Arc::clone(&self.observer);
        let record = Record {
            observer,
            call,
            started,
            status: 0,
            version: Version::HTTP_11,
            code: None,
            head: None,
            streamed,
            ended: false,
        };
        CallFuture { inner: self.inner.call(request), record: Some(record) }
    }
}

pin_project! {
    /// A call under way; dropped before its answer, it was given up.
    pub struct CallFuture<F> {
        #[pin]
        inner: F,
        record: Option<Record>,
    }
}

impl<F, B> Future for CallFuture<F>
where
    F: Future<Output = Result<Response<B>, BoxError>>,
    B: http_body::Body,
{
    type Output = Result<Response<WatchedBody<B, CallWatch>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(cx));
        // Polled after completion, which the contract of Future leaves to the caller, there is nothing left to observe.
        let record = this.record.take();
        Poll::Ready(match (result, record) {
            (Ok(response), Some(record)) => Ok(record.answered(response)),
            (Ok(response), None) => Ok(response.map(WatchedBody::unwatched)),
            (Err(error), record) => {
                if let Some(mut record) = record {
                    record.code = record.call.called.is_grpc().then(|| code_of_error(&*error));
                    record.end(Some(Outcome::of_error(&error)), Some(&error));
                }
                Err(error)
            }
        })
    }
}

impl<F> std::fmt::Debug for CallFuture<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallFuture").finish_non_exhaustive()
    }
}

/// One call being observed. Dropping it is its end, however that comes.
#[derive(Debug)]
struct Record {
    observer: Arc<ClientObserver>,
    call: CallNote,
    started: Instant,
    /// 0 until the head of the answer is there.
    status: u16,
    version: Version,
    code: Option<Code>,
    /// What the head or the trailers say that it came to.
    head: Option<Outcome>,
    /// Its rest may come after the deadline.
    streamed: bool,
    ended: bool,
}

impl Record {
    fn answered<B: http_body::Body>(mut self, response: Response<B>) -> Response<WatchedBody<B, CallWatch>> {
        self.status = response.status().as_u16();
        self.version = response.version();
        self.head = Outcome::of_head(self.call.called.protocol(), &response);
        if self.head.is_some() && self.call.called.is_grpc() {
            self.code = code_in(response.headers()).or(Some(code_of_status(self.status)));
        }
        response.map(|body| WatchedBody::new(body, CallWatch(self)))
    }

    /// The call is over; without an outcome it was given up.
    fn end(&mut self, outcome: Option<Outcome>, error: Option<&BoxError>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let (call, elapsed) = (&self.call, clock::tokio_now().saturating_duration_since(self.started));
        let word = outcome.map_or(CANCELLED, Outcome::as_str);
        let failed = outcome != Some(Outcome::Success);
        let own = call.recorded.then_some((call.parent.trace_id, call.parent.parent_id));
        call.called.calls.record(word, elapsed.as_secs_f64(), own);
        if let Some(Outcome::Refused(cause)) = outcome {
            self.observer.refused[cause as usize].fetch_add(1, Ordering::Relaxed);
        }
        if call.recorded {
            let ending = if call.called.is_grpc() {
                self.code.map(Ending::Grpc)
            } else {
                Some(Ending::Http(self.status, self.version))
            };
            self.observer.spans.export(span::call(&self.observer, call, word, ending, failed, elapsed));
        }
        // Whoever gave a call up knows why.
        if failed && outcome.is_some() {
            self.tell(word, error);
        }
    }

    /// Returns whether its time is up.
    fn is_late(&self) -> bool {
        self.call.deadline.is_some_and(|deadline| deadline <= clock::tokio_now())
    }

    #[cold]
    fn tell(&self, outcome: &'static str, error: Option<&BoxError>) {
        let Some(held_back) = self.observer.lines.admit(Instant::now()) else { return };
        let error = match (error, self.code) {
            (Some(error), _) => chain(&**error),
            (None, Some(code)) => code_name(code).to_owned(),
            (None, None) if self.status != 0 => self.status.to_string(),
            (None, None) => String::new(),
        };
        let failed = line::FailedCall {
            destination: &self.observer.destination,
            outcome,
            attempts: self.call.attempts.load(Ordering::Relaxed),
            elapsed: self.started.elapsed(),
            error: &error,
            held_back,
        };
        line::failed(&self.call, &failed);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // An answer whose rest nobody wants is what its head said, unless the rest did not come in time. Without a head, the
        // one who waited may have had the same time in mind as the call.
        let late = self.is_late();
        let owes = |head: &Outcome| *head == Outcome::Success && !self.streamed && !self.call.called.is_grpc();
        let head = self.head.filter(|head| !(late && owes(head)));
        self.end(head.or(late.then_some(Outcome::TimedOut)), None);
    }
}

/// Waits for the end of an answer.
#[derive(Debug)]
pub struct CallWatch(Record);

impl Watch for CallWatch {
    fn trailers(&mut self, trailers: &HeaderMap) {
        if self.0.call.called.is_grpc() && self.0.head.is_none() {
            self.0.code = code_in(trailers);
            let late = self.0.code == Some(Code::DeadlineExceeded) && self.0.is_late();
            self.0.head = Some(if late { Outcome::TimedOut } else { Outcome::of_trailers(trailers) });
        }
    }

    fn complete(mut self) {
        // Over gRPC, an answer without trailers was cut short.
        let outcome = self.0.head.unwrap_or(Outcome::Failed);
        self.0.end(Some(outcome), None);
    }

    fn broke_off(mut self, error: Option<&(dyn Error + 'static)>) {
        if self.0.call.called.is_grpc() {
            self.0.code = Some(error.map_or(Code::Unavailable, code_of_error));
        }
        self.0.end(Some(Outcome::Failed), None);
    }
}
