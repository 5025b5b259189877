use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use axum::BoxError;
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use opentelemetry::Context as OtelContext;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    ObservedBody, Observer, TRACE_ID_HEADER,
    connection::Connection,
    cookies,
    exchange::{Exchange, hex_trace_id},
    length::Length,
};
use crate::context::{Entered, Protocol, RequestContext};

/// Gives requests their trace and observes how they end. See the [module](super).
#[derive(Clone, Debug)]
pub struct ObserveLayer {
    observer: Arc<Observer>,
}

impl ObserveLayer {
    pub(crate) fn new(observer: Arc<Observer>) -> Self {
        Self { observer }
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe { inner, observer: self.observer.clone(), connection: None }
    }
}

/// See [`ObserveLayer`].
#[derive(Clone, Debug)]
pub struct Observe<S> {
    inner: S,
    observer: Arc<Observer>,
    connection: Option<Arc<Connection>>,
}

impl<S> Observe<S> {
    /// The same service for the requests of one connection.
    pub(crate) fn of(mut self, connection: Arc<Connection>) -> Self {
        self.connection = Some(connection);
        self
    }
}

impl<S, B, R> Service<Request<B>> for Observe<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible>,
    R: http_body::Body<Data = Bytes, Error = BoxError>,
{
    type Response = Response<ObservedBody<R>>;
    type Error = Infallible;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let exchange = Exchange::begin(&self.observer, &request, self.connection.as_ref(), Instant::now());
        let context = exchange.context().clone();
        request.extensions_mut().insert(context.clone());
        if let Some(connection) = &self.connection {
            connection.introduce(context.protocol(), request.extensions_mut());
        }
        cookies::join(request.headers_mut());
        // Children made by the handler find their parent in the current OpenTelemetry context; only a sampled request has any.
        let otel = exchange.otel();
        let entered = Entered::enter(context);
        let attached = otel.clone().map(OtelContext::attach);
        let inner = self.inner.call(request);
        drop(attached);
        drop(entered);
        ResponseFuture { inner, exchange: Some(exchange), otel }
    }
}

pin_project! {
    /// The response, observed; dropping it before it is ready counts as an abort by the caller.
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        exchange: Option<Exchange>,
        otel: Option<OtelContext>,
    }
}

impl<F> std::fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl<F, R> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, Infallible>>,
    R: http_body::Body<Data = Bytes, Error = BoxError>,
{
    type Output = Result<Response<ObservedBody<R>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let entered = this.exchange.as_ref().map(|exchange| Entered::enter(exchange.context().clone()));
        let attached = this.otel.clone().map(OtelContext::attach);
        let polled = this.inner.poll(cx);
        drop(attached);
        drop(entered);
        let Ok(mut response) = ready!(polled);
        let Some(mut exchange) = this.exchange.take() else {
            // Polled after completion, which the contract of Future leaves to the caller; answer without observing.
            return Poll::Ready(Ok(response.map(|body| ObservedBody::new(body, None, None, Length::Open))));
        };
        exchange.answered(&mut response);
        let (status, size) = (response.status(), response.body().size_hint().exact());
        let length = exchange.length(status, response.headers_mut(), size);
        response.headers_mut().insert(TRACE_ID_HEADER, trace_id_header(exchange.context()));
        let otel = this.otel.take();
        Poll::Ready(Ok(response.map(|body| ObservedBody::new(body, Some(exchange), otel, length))))
    }
}

fn trace_id_header(context: &RequestContext) -> HeaderValue {
    // Hexadecimal digits are always a valid header value; the fallback can never be seen.
    HeaderValue::from_bytes(&hex_trace_id(context.trace().trace_id)).unwrap_or(HeaderValue::from_static("0"))
}

/// How the caller of a request speaks, by its content type.
pub(crate) fn protocol_of(headers: &http::HeaderMap) -> Protocol {
    match headers.get(http::header::CONTENT_TYPE).map(HeaderValue::as_bytes) {
        Some(value) => match value.strip_prefix(b"application/grpc") {
            Some([] | [b'+' | b';', ..]) => Protocol::Grpc,
            Some(rest) if rest.starts_with(b"-web") => Protocol::GrpcWeb,
            _ => Protocol::Http,
        },
        None => Protocol::Http,
    }
}
