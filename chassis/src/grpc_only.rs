//! Plain HTTP on the path of a gRPC method is answered 415 with a problem, in place of what gRPC would say to it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{BoxError, body::Body};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    cause::Cause,
    context::{Protocol, RequestContext},
    problem::Problem,
    reject::reject_with,
};

/// Lets gRPC and gRPC-Web calls through alone. Goes on gRPC's routes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GrpcOnlyLayer;

impl<S> Layer<S> for GrpcOnlyLayer {
    type Service = GrpcOnly<S>;

    fn layer(&self, inner: S) -> GrpcOnly<S> {
        GrpcOnly { inner }
    }
}

/// See [`GrpcOnlyLayer`].
#[derive(Clone, Debug)]
pub(crate) struct GrpcOnly<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for GrpcOnly<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // Used without the observer, nothing says how the caller speaks.
        let http = request.extensions().get::<RequestContext>().is_some_and(|c| c.protocol() == Protocol::Http);
        ResponseFuture { inner: (!http).then(|| self.inner.call(request)) }
    }
}

pin_project! {
    /// The response, or 415.
    #[derive(Debug)]
    pub(crate) struct ResponseFuture<F> {
        #[pin]
        inner: Option<F>,
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Output = Result<Response<Body>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().inner.as_pin_mut() {
            Some(inner) => Poll::Ready(ready!(inner.poll(cx)).map(|response| response.map(Body::new))),
            None => Poll::Ready(Ok(refusal())),
        }
    }
}

#[cold]
fn refusal() -> Response<Body> {
    let problem = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Cause::InvalidRequest.as_str())
        .detail("this is a gRPC method: expected a POST with content-type application/grpc or application/grpc-web");
    reject_with(problem, Cause::InvalidRequest, Protocol::Http)
}
