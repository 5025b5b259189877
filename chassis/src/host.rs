//! HTTP/1.1 asks every request to name its host, once; a request that does not is answered 400 (RFC 9112, section 3.2).
//!
//! Two hosts in one request are how a front and a back are made to disagree on whose request it is.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use http::{Request, Response, Version, header::HOST};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    cause::Cause,
    context::{Protocol, RequestContext},
    problem::Problem,
    reject::reject_with,
};

/// Refuses HTTP/1.1 requests without exactly one `host`. See the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct HostLayer;

impl<S> Layer<S> for HostLayer {
    type Service = Host<S>;

    fn layer(&self, inner: S) -> Host<S> {
        Host { inner }
    }
}

/// See [`HostLayer`].
#[derive(Clone, Debug)]
pub struct Host<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for Host<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let named_once = || {
            let mut hosts = request.headers().get_all(HOST).iter();
            hosts.next().is_some() && hosts.next().is_none()
        };
        let refused = request.version() == Version::HTTP_11 && !named_once();
        ResponseFuture { inner: (!refused).then(|| self.inner.call(request)) }
    }
}

pin_project! {
    /// The response, or 400.
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: Option<F>,
    }
}

impl<F> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().inner.as_pin_mut() {
            Some(inner) => inner.poll(cx),
            None => Poll::Ready(Ok(refusal())),
        }
    }
}

#[cold]
fn refusal() -> Response<Body> {
    let protocol = RequestContext::with_current(|c| c.map_or(Protocol::Http, RequestContext::protocol));
    let problem =
        Problem::from(Cause::InvalidRequest).detail("expected exactly one `host` header (RFC 9112, section 3.2)");
    reject_with(problem, Cause::InvalidRequest, protocol)
}
