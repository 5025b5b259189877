use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::{HeaderMap, Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{Breaker, NotSent, Permit};
use crate::{
    client::{
        Outcome, RequestBody,
        balance::{Available, Bypass},
        body::{Watch, WatchedBody},
        facts::Facts,
        hurry::{Dropped, Rest, excuses_error},
    },
    clock::now,
    context::Protocol,
    error::BoxError,
};

/// Puts a [`Breaker`] around the service of one endpoint.
///
/// A call that the breaker does not let through fails with [`NotSent`] and the cause `circuit_open` at once.
///
/// A time-out of a call that left the endpoint less than twice the time that it takes to answer counts as cancelled: it says
/// nothing of the endpoint, whether this side gave up or the endpoint did, with 504 or DEADLINE_EXCEEDED. One of
/// `attempt_timeout` always counts.
///
/// What a call came to is told by the head of its answer when that is bad, by the end otherwise: an HTTP body that
/// breaks off is a failure whatever the status said, and the status of a gRPC call is in its trailers. An HTTP answer
/// that nobody reads to its end counts by its status; a gRPC answer that is dropped before its end counts as cancelled,
/// since only the end would have told. Dropped at the call's deadline or later, the rest has not come in time, and counts
/// as a time-out; not so what is declared a stream, and a gRPC answer of which a message has come. The time until the head is what may be slow: a stream may last as long as it
/// likes, and a unary gRPC call has its head when it has its message.
#[derive(Clone, Debug)]
pub struct BreakerLayer {
    breaker: Breaker,
}

impl BreakerLayer {
    /// With this breaker. All services that the layer makes share it.
    #[must_use]
    pub fn new(breaker: Breaker) -> Self {
        Self { breaker }
    }
}

impl<S> Layer<S> for BreakerLayer {
    type Service = BreakerService<S>;

    fn layer(&self, inner: S) -> BreakerService<S> {
        BreakerService { inner, breaker: self.breaker.clone(), admitted: None }
    }
}

/// See [`BreakerLayer`].
#[derive(Debug)]
pub struct BreakerService<S> {
    inner: S,
    breaker: Breaker,
    /// The place that [`admit`](Available::admit) has taken.
    admitted: Option<Permit>,
}

/// The place is the original's.
impl<S: Clone> Clone for BreakerService<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), breaker: self.breaker.clone(), admitted: None }
    }
}

impl<S> BreakerService<S> {
    /// Its breaker.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// The service inside.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S> Available for BreakerService<S> {
    fn is_available(&self, now: Instant) -> bool {
        self.breaker.is_available(now)
    }

    fn wait(&self, now: Instant) -> Option<Duration> {
        self.breaker.wait(now)
    }

    fn is_unreachable(&self) -> bool {
        self.breaker.is_unreachable()
    }

    fn admit(&mut self, now: Instant, bypass: bool) -> Result<(), NotSent> {
        let permit = if bypass { self.breaker.admit_anyway(now) } else { self.breaker.admit(now) };
        self.admitted = Some(permit?);
        Ok(())
    }

    fn cap_wait(&self) {
        self.breaker.cap_wait();
    }
}

impl<S, B> Service<Request<RequestBody>> for BreakerService<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = BoxError>,
    B: Body,
{
    type Response = Response<AnswerBody<B>>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    /// As the service inside: a breaker that is open answers calls, with its refusal.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let started = now();
        let admitted = match self.admitted.take() {
            Some(permit) => Ok(permit),
            None if request.extensions().get::<Bypass>().is_some() => self.breaker.admit_anyway(started),
            None => self.breaker.admit(started),
        };
        match admitted {
            Err(open) => ResponseFuture { inner: Inner::Refused { error: Some(open.into()) } },
            Ok(permit) => {
                let facts = Facts::of(&request);
                let call = Some(Call { permit, protocol: facts.protocol, started, rest: Rest::of(&facts) });
                ResponseFuture { inner: Inner::Sent { future: self.inner.call(request), call } }
            }
        }
    }
}

/// A call under way. Dropped, it is cancelled.
#[derive(Debug)]
struct Call {
    permit: Permit,
    protocol: Protocol,
    started: Instant,
    rest: Rest,
}

impl Call {
    /// What the head says, and who waits for the rest.
    fn head<B: Body>(self, response: &Response<B>) -> Option<Ending> {
        let Self { mut permit, protocol, started, mut rest } = self;
        let now = now();
        let elapsed = now.saturating_duration_since(started);
        let outcome = Outcome::of_head(protocol, response);
        if rest.head(response) {
            return None;
        }
        match outcome {
            None | Some(Outcome::Success) if !response.body().is_end_stream() => {
                permit.answered();
                Some(Ending { permit: Some(permit), elapsed, outcome, rest })
            }
            outcome => {
                // A gRPC answer without any status was cut short.
                permit.record(outcome.unwrap_or(Outcome::Failed), elapsed, now);
                None
            }
        }
    }
}

pin_project! {
    /// The answer, or the breaker's refusal.
    pub struct ResponseFuture<F> {
        #[pin]
        inner: Inner<F>,
    }
}

pin_project! {
    #[project = InnerProj]
    enum Inner<F> {
        Sent { #[pin] future: F, call: Option<Call> },
        Refused { error: Option<NotSent> },
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl<F, B> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, BoxError>>,
    B: Body,
{
    type Output = Result<Response<AnswerBody<B>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().inner.project() {
            InnerProj::Refused { error } => match error.take() {
                Some(error) => Poll::Ready(Err(error.into())),
                // Polled again after it was ready.
                None => Poll::Pending,
            },
            InnerProj::Sent { future, call } => {
                let result = std::task::ready!(future.poll(cx));
                let call = call.take();
                Poll::Ready(match result {
                    Ok(response) => {
                        let ending = call.and_then(|call| call.head(&response));
                        Ok(response.map(|body| AnswerBody {
                            inner: match ending {
                                Some(ending) => WatchedBody::new(body, ending),
                                None => WatchedBody::unwatched(body),
                            },
                        }))
                    }
                    Err(error) => {
                        if let Some(Call { permit, started, .. }) = call.filter(|_| !excuses_error(&error)) {
                            let now = now();
                            permit.record(Outcome::of_error(&error), now.saturating_duration_since(started), now);
                        }
                        Err(error)
                    }
                })
            }
        }
    }
}

pin_project! {
    /// The body of an answer, whose end the breaker is told of.
    pub struct AnswerBody<B> {
        #[pin]
        inner: WatchedBody<B, Ending>,
    }
}

impl<B: Body> Body for AnswerBody<B>
where
    B::Error: 'static,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<B::Data>, B::Error>>> {
        self.project().inner.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

impl<B: fmt::Debug> fmt::Debug for AnswerBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// An answer whose head was not bad.
struct Ending {
    permit: Option<Permit>,
    elapsed: Duration,
    /// What the head has told; `None` when the trailers are to tell.
    outcome: Option<Outcome>,
    rest: Rest,
}

impl Ending {
    fn record(&mut self, outcome: Outcome) {
        if let Some(permit) = self.permit.take() {
            permit.record(outcome, self.elapsed, now());
        }
    }
}

impl Watch for Ending {
    fn data(&mut self) {
        self.rest.data();
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        // Told here, not at the end: nobody has to poll for what comes after trailers.
        if self.outcome.is_none() {
            if self.rest.excuses(trailers) {
                self.permit = None;
            }
            self.record(Outcome::of_trailers(trailers));
        }
    }

    fn complete(mut self) {
        // gRPC without trailers was cut short.
        self.record(self.outcome.unwrap_or(Outcome::Failed));
    }

    fn broke_off(mut self, _: Option<&(dyn std::error::Error + 'static)>) {
        self.record(Outcome::Failed);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if self.permit.is_none() {
            return;
        }
        match (self.rest.dropped(now()), self.outcome) {
            (Dropped::Late, _) => self.record(Outcome::TimedOut),
            (Dropped::InTime, Some(outcome)) => self.record(outcome),
            (Dropped::Hurried, _) | (Dropped::InTime, None) => {}
        }
    }
}
