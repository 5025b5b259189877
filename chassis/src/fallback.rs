//! Gives a body to the bare 404 and 405 of the router: a problem over HTTP, UNIMPLEMENTED over gRPC.
//!
//! Only answers without any body are touched, so a fallback that an existing service brought along keeps its own page.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use http::{Request, Response, StatusCode, header};
use http_body::Body as _;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    cause::Cause,
    context::{Protocol, RequestContext},
    problem::Problem,
    reject::{self, reject},
};

/// Answers what the router leaves bare. See the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct FallbackLayer;

impl<S> Layer<S> for FallbackLayer {
    type Service = Fallback<S>;

    fn layer(&self, inner: S) -> Fallback<S> {
        Fallback { inner }
    }
}

/// See [`FallbackLayer`].
#[derive(Clone, Debug)]
pub struct Fallback<S> {
    inner: S,
}

impl<S> Service<Request<Body>> for Fallback<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        ResponseFuture { inner: self.inner.call(request) }
    }
}

pin_project! {
    /// The response, with a body if the router gave it none.
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
    }
}

impl<F> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(response) = ready!(this.inner.poll(cx));
        let cause = match response.status() {
            StatusCode::NOT_FOUND => Cause::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Cause::MethodNotAllowed,
            _ => return Poll::Ready(Ok(response)),
        };
        if !response.body().is_end_stream() || response.headers().contains_key(header::CONTENT_TYPE) {
            return Poll::Ready(Ok(response));
        }
        Poll::Ready(Ok(answer(cause, &response)))
    }
}

#[cold]
fn answer(cause: Cause, bare: &Response<Body>) -> Response<Body> {
    let (protocol, matched) = RequestContext::with_current(|context| {
        context.map_or((Protocol::Http, false), |context| (context.protocol(), context.route().is_some()))
    });
    if protocol != Protocol::Http {
        // gRPC's word for a method that nobody serves, whether the router misses the path or the method.
        return reject(Cause::MethodNotAllowed, protocol);
    }
    // A handler's own bare 404 is an answer, not a refusal of the chassis; the router's 405 is one.
    let mut response = match (cause, matched) {
        (Cause::NotFound, true) => reject::answer(Problem::from(cause), protocol),
        _ => reject(cause, protocol),
    };
    // What the handler or the router said stays: `allow` for one.
    for (name, value) in bare.headers() {
        if name != header::CONTENT_LENGTH && !response.headers().contains_key(name) {
            response.headers_mut().append(name, value.clone());
        }
    }
    response
}
