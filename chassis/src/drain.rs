//! Tells callers to move away while the instance drains: `connection: close` on HTTP/1.1 answers.
//!
//! Without it a kept-alive connection ends when the server closes it, and a request that is on its way just then is lost.
//! Closed behind an answer, at the caller's knowledge, nothing is. HTTP/2 needs no such thing: GOAWAY says which streams count.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Request, Response, StatusCode, Version, header::CONNECTION};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::shutdown::{Phase, Shutdown};

/// Marks answers given while draining. See the [module](self).
#[derive(Clone, Debug)]
pub struct DrainLayer {
    shutdown: Shutdown,
}

impl DrainLayer {
    /// Watches `shutdown` for the phase.
    #[must_use]
    pub fn new(shutdown: Shutdown) -> Self {
        Self { shutdown }
    }
}

impl<S> Layer<S> for DrainLayer {
    type Service = Drain<S>;

    fn layer(&self, inner: S) -> Drain<S> {
        Drain { inner, shutdown: self.shutdown.clone() }
    }
}

/// See [`DrainLayer`].
#[derive(Clone, Debug)]
pub struct Drain<S> {
    inner: S,
    shutdown: Shutdown,
}

impl<S, B, R> Service<Request<B>> for Drain<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible>,
{
    type Response = Response<R>;
    type Error = Infallible;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let http1 = request.version() <= Version::HTTP_11;
        ResponseFuture { inner: self.inner.call(request), shutdown: http1.then(|| self.shutdown.clone()) }
    }
}

pin_project! {
    /// The response, marked when the instance drains by the time it is ready.
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        shutdown: Option<Shutdown>,
    }
}

impl<F, R> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, Infallible>>,
{
    type Output = Result<Response<R>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(mut response) = ready!(this.inner.poll(cx));
        let draining = this.shutdown.as_ref().is_some_and(|shutdown| shutdown.phase() != Phase::Running);
        // An upgrade's own `connection` header has to stay.
        if draining && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(response))
    }
}
