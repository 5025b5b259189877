//! Layers of the service's own, around all layers of the chassis but the outermost.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
    routing::Route,
};
use bytes::Bytes;
use http_body_util::Either;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    catch_panic::{CatchPanic, CatchPanicLayer},
    error::BoxError,
};

/// One layer of the service's own, ready to be put around the chassis's.
pub(crate) struct OwnLayer {
    name: String,
    put: Box<dyn FnOnce(Router) -> Router + Send>,
}

impl OwnLayer {
    /// `name` is the layer's type, for the `layers` command.
    pub(crate) fn new<L>(name: String, layer: L) -> Self
    where
        L: Layer<Route> + Clone + Send + Sync + 'static,
        L::Service: Service<Request> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request>>::Response: IntoResponse + 'static,
        <L::Service as Service<Request>>::Error: Into<Infallible> + 'static,
        <L::Service as Service<Request>>::Future: Send + 'static,
    {
        Self { name, put: Box::new(|routes| routes.layer(layer)) }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for OwnLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnLayer").field(&self.name).finish()
    }
}

/// A service behind the layers of the service's own, if there are any. Without one it costs a request nothing.
#[derive(Clone, Debug)]
pub(crate) enum Own<S> {
    Bare(S),
    Layered(Router),
}

impl<S> Own<S> {
    /// `layers` has the innermost first.
    pub(super) fn new<R>(inner: S, layers: Vec<OwnLayer>) -> Self
    where
        S: Service<Request, Response = Response<R>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        R: http_body::Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError>,
        CatchPanic<S>: Service<Request, Error = Infallible> + Clone + Send + Sync + 'static,
        <CatchPanic<S> as Service<Request>>::Response: IntoResponse,
        <CatchPanic<S> as Service<Request>>::Future: Send + 'static,
    {
        if layers.is_empty() {
            return Self::Bare(inner);
        }
        // The answer to a panic passes the layers as any other does; a panic of theirs is caught further out.
        let inner = Router::new().fallback_service(CatchPanicLayer.layer(inner));
        Self::Layered(layers.into_iter().fold(inner, |routes, layer| (layer.put)(routes)))
    }
}

impl<S, B, R> Service<http::Request<B>> for Own<S>
where
    S: Service<http::Request<B>, Response = Response<R>, Error = Infallible>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: http_body::Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    type Response = Response<Either<R, Body>>;
    type Error = Infallible;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        match self {
            Self::Bare(inner) => inner.poll_ready(cx),
            Self::Layered(routes) => Service::<Request>::poll_ready(routes, cx),
        }
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        match self {
            Self::Bare(inner) => ResponseFuture::Bare { inner: inner.call(request) },
            Self::Layered(routes) => ResponseFuture::Layered { inner: routes.call(request.map(Body::new)) },
        }
    }
}

pin_project! {
    /// The response, with either body.
    #[project = Projection]
    pub(crate) enum ResponseFuture<F> {
        Bare {
            #[pin]
            inner: F,
        },
        Layered {
            #[pin]
            inner: <Router as Service<Request>>::Future,
        },
    }
}

impl<F, R> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, Infallible>>,
{
    type Output = Result<Response<Either<R, Body>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = match self.project() {
            Projection::Bare { inner } => ready!(inner.poll(cx)).map(|response| response.map(Either::Left)),
            Projection::Layered { inner } => ready!(inner.poll(cx)).map(|response| response.map(Either::Right)),
        };
        Poll::Ready(response)
    }
}
