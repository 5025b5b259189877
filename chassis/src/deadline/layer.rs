use std::{
    convert::Infallible,
    pin::Pin,
    sync::atomic::Ordering,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::body::Body;
use http::{Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower_layer::Layer;
use tower_service::Service;

use super::{DeadlineBody, GRPC_TIMEOUT, TIMEOUT_HEADER, grpc_timeout, http_timeout};
use crate::{
    cause::Cause,
    context::{Protocol, RequestContext},
    problem::Problem,
    reject::reject_with,
};

/// Holds requests to their deadline. See the [module](super).
///
/// The deadline is kept in the [`RequestContext`] that the observer puts into the request; a request without one passes
/// untouched.
#[derive(Clone, Copy, Debug)]
pub struct DeadlineLayer {
    http_timeout: Duration,
    inside_grpc_web: bool,
}

impl DeadlineLayer {
    /// `http_timeout` limits the time until the response head of an HTTP request that brings no shorter limit.
    ///
    /// gRPC calls have no limit of the server's, as gRPC has it: their caller sets one.
    #[must_use]
    pub fn new(http_timeout: Duration) -> Self {
        Self { http_timeout, inside_grpc_web: false }
    }

    /// The same for gRPC-Web, to go inside of the layer that translates it: there trailers are still trailers.
    ///
    /// The outer layer leaves gRPC-Web calls alone, and limits what only claims to be one.
    #[must_use]
    pub fn inside_grpc_web() -> Self {
        Self { http_timeout: Duration::MAX, inside_grpc_web: true }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Deadline<S> {
        Deadline { inner, layer: *self }
    }
}

/// See [`DeadlineLayer`].
#[derive(Clone, Debug)]
pub struct Deadline<S> {
    inner: S,
    layer: DeadlineLayer,
}

impl<S, B, R> Service<Request<B>> for Deadline<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible>,
    R: http_body::Body<Data = bytes::Bytes> + From<Body>,
{
    type Response = Response<DeadlineBody<R>>;
    type Error = Infallible;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let context = request.extensions().get::<RequestContext>().cloned();
        let Some(context) = context.filter(|context| is_translated(context) == self.layer.inside_grpc_web) else {
            // Not this layer's kind of call, or used without the observer, when nothing carries a deadline.
            return ResponseFuture {
                inner: Some(self.inner.call(request)),
                context: None,
                from_caller: None,
                sleep: None,
            };
        };
        let headers = request.headers();
        let from_caller = match context.protocol() {
            Protocol::Http => headers.get(TIMEOUT_HEADER).and_then(|v| http_timeout(v.as_bytes())),
            Protocol::Grpc | Protocol::GrpcWeb => headers.get(GRPC_TIMEOUT).and_then(|v| grpc_timeout(v.as_bytes())),
        };
        // gRPC leaves the limit to the caller; what only claims to be gRPC is limited as HTTP is.
        let server = (!context.0.rpc).then_some(self.layer.http_timeout);
        let deadline = |timeout| saturating_add(context.started(), timeout);
        for timeout in [from_caller, server].into_iter().flatten() {
            context.limit(deadline(timeout));
        }
        if let Some(timeout) = from_caller {
            context.limit_by_caller(timeout);
        }
        // A deadline of zero has passed before anything was done: refuse instead of starting work nobody waits for.
        let expired = from_caller.is_some_and(|timeout| timeout.is_zero());
        let inner = (!expired).then(|| self.inner.call(request));
        let from_caller = from_caller.map(deadline);
        ResponseFuture { inner, context: Some(context), from_caller, sleep: None }
    }
}

pin_project! {
    /// The response, or the refusal when time is up.
    pub struct ResponseFuture<F> {
        #[pin]
        inner: Option<F>,
        context: Option<RequestContext>,
        // The caller's own deadline: it covers the body too, those of the server and of the route the head only.
        from_caller: Option<Instant>,
        // Boxed, because most requests never need it and it is larger than the rest of the future.
        sleep: Option<Pin<Box<Sleep>>>,
    }
}

impl<F> std::fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseFuture").field("from_caller", &self.from_caller).finish_non_exhaustive()
    }
}

impl<F, R> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, Infallible>>,
    R: http_body::Body<Data = bytes::Bytes> + From<Body>,
{
    type Output = Result<Response<DeadlineBody<R>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let begun = this.inner.is_some();
        let expired = match this.inner.as_mut().as_pin_mut() {
            None => true,
            Some(inner) => {
                if let Poll::Ready(response) = inner.poll(cx) {
                    let covers_body = this.context.take().zip(*this.from_caller);
                    return Poll::Ready(response.map(|r| r.map(|body| DeadlineBody::new(body, covers_body))));
                }
                let Some(deadline) = this.context.as_ref().and_then(RequestContext::deadline) else {
                    return Poll::Pending;
                };
                expired(this.sleep, deadline, cx)
            }
        };
        if !expired {
            return Poll::Pending;
        }
        // Whether the caller's body is what the handler waits for is known only as long as the handler is there.
        let slow_caller = this.context.as_ref().is_some_and(|c| c.0.waits_for_body.load(Ordering::Relaxed));
        // The handler's work ends here, before the refusal is written.
        this.inner.set(None);
        let protocol = match this.context.as_ref() {
            None => Protocol::Http,
            Some(context) if is_translated(context) => Protocol::Grpc,
            Some(context) => context.protocol(),
        };
        let refusal = match (protocol, slow_caller) {
            (Protocol::Http, true) => reject_with(slow_body(), Cause::DeadlineExceeded, protocol),
            // Nobody knows how far a handler came; where none was asked, a retry does no harm.
            _ => {
                let problem = Problem::from(Cause::DeadlineExceeded).retry_safe(!begun);
                reject_with(problem, Cause::DeadlineExceeded, protocol)
            }
        };
        Poll::Ready(Ok(refusal.map(|body| DeadlineBody::new(body.into(), None))))
    }
}

/// Whether a gRPC-Web call is translated further inside. Only a gRPC service that is served is behind the translation,
/// whatever a content type claims.
fn is_translated(context: &RequestContext) -> bool {
    context.protocol() == Protocol::GrpcWeb && context.0.rpc
}

/// The same word as for all that took too long; the status says that it was the caller (RFC 9110, section 15.5.9).
#[cold]
fn slow_body() -> Problem {
    Problem::new(StatusCode::REQUEST_TIMEOUT, Cause::DeadlineExceeded.as_str())
        .detail("the request's body did not arrive in time")
}

/// Whether the deadline has passed; if not, the task is woken when it does.
pub(super) fn expired(sleep: &mut Option<Pin<Box<Sleep>>>, deadline: Instant, cx: &mut Context<'_>) -> bool {
    let sleep = sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
    sleep.as_mut().poll(cx).is_ready()
}

/// `Instant + Duration` panics when it overflows; a caller may send a hundred thousand hours.
fn saturating_add(start: Instant, timeout: Duration) -> Instant {
    // Chosen: a year is as good as no limit.
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    start + timeout.min(YEAR)
}
