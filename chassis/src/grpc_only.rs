//! gRPC's routes: calls of gRPC go to the method, those of gRPC-Web are translated on the way, and plain HTTP is answered 415
//! with a problem, in place of what gRPC would say to it.
//!
//! A CORS preflight (Fetch, section 3.2.2) is plain HTTP that belongs to a call of gRPC-Web. It goes to the layers around the
//! method, past the translation, which refuses it over HTTP/1.1. Where no layer answers it with a CORS header, it is answered
//! 415, too.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{BoxError, body::Body};
use bytes::Bytes;
use http::{
    Method, Request, Response, StatusCode,
    header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN},
};
use http_body::Frame;
use pin_project_lite::pin_project;
use tonic::Status;
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    cause::Cause,
    context::{Protocol, RequestContext},
    problem::Problem,
    reject::reject_with,
};

/// Translates gRPC-Web and refuses plain HTTP. Goes on gRPC's routes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GrpcOnlyLayer;

impl<S: Clone> Layer<S> for GrpcOnlyLayer {
    type Service = GrpcOnly<S>;

    fn layer(&self, inner: S) -> GrpcOnly<S> {
        GrpcOnly { preflights: inner.clone(), calls: GrpcWebLayer::new().layer(inner) }
    }
}

/// See [`GrpcOnlyLayer`].
#[derive(Clone, Debug)]
pub(crate) struct GrpcOnly<S> {
    calls: GrpcWebService<S>,
    preflights: S,
}

impl<S, R> Service<Request<Body>> for GrpcOnly<S>
where
    S: Service<Request<tonic::body::Body>, Response = Response<R>>,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError> + std::fmt::Display,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = ResponseFuture<<GrpcWebService<S> as Service<Request<Body>>>::Future, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        ready!(self.preflights.poll_ready(cx))?;
        Service::<Request<Body>>::poll_ready(&mut self.calls, cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // Used without the observer, nothing says how the caller speaks.
        let http = request.extensions().get::<RequestContext>().is_some_and(|c| c.protocol() == Protocol::Http);
        match http {
            false => ResponseFuture::Call { inner: self.calls.call(request) },
            true if is_preflight(&request) => {
                // A method that no layer stands in front of must not take the empty body for an empty stream of messages.
                let request = request.map(|_| tonic::body::Body::new(NoMessages));
                ResponseFuture::Preflight { inner: self.preflights.call(request) }
            }
            true => ResponseFuture::Refused,
        }
    }
}

fn is_preflight<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    request.method() == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Returns whether a layer has answered a preflight, be it to refuse the origin.
fn is_answered<R>(response: &Response<R>) -> bool {
    response.headers().keys().any(|name| name.as_str().starts_with("access-control-"))
}

/// The body of a request that is no call: an error for everyone who reads it.
struct NoMessages;

impl http_body::Body for NoMessages {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(Some(Err(Status::invalid_argument("a CORS preflight is no call"))))
    }
}

pin_project! {
    /// The response, or 415.
    #[derive(Debug)]
    #[project = Projection]
    pub(crate) enum ResponseFuture<C, P> {
        Call {
            #[pin]
            inner: C,
        },
        Preflight {
            #[pin]
            inner: P,
        },
        Refused,
    }
}

impl<C, P, T, R, E> Future for ResponseFuture<C, P>
where
    C: Future<Output = Result<Response<T>, E>>,
    P: Future<Output = Result<Response<R>, E>>,
    T: http_body::Body<Data = Bytes> + Send + 'static,
    T::Error: Into<BoxError>,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Output = Result<Response<Body>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            Projection::Call { inner } => Poll::Ready(Ok(ready!(inner.poll(cx))?.map(Body::new))),
            Projection::Preflight { inner } => {
                let response = ready!(inner.poll(cx))?;
                Poll::Ready(Ok(if is_answered(&response) { response.map(Body::new) } else { refusal() }))
            }
            Projection::Refused => Poll::Ready(Ok(refusal())),
        }
    }
}

#[cold]
fn refusal() -> Response<Body> {
    let problem = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Cause::InvalidRequest.as_str())
        .detail("this is a gRPC method: expected a POST with content-type application/grpc or application/grpc-web");
    reject_with(problem, Cause::InvalidRequest, Protocol::Http)
}
