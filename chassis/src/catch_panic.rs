//! A handler's panic is this request's failure, not the process's: 500 over HTTP, INTERNAL over gRPC.
//!
//! The panic itself is logged by the panic hook, with the request's trace id, and counted there. The observer
//! is told of it, so that the health check `panics` is.

use std::{
    any::Any,
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use axum::{BoxError, body::Body};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    cause::Cause,
    context::{Protocol, RequestContext},
    reject::reject,
    telemetry::log::panic_message,
};

/// Catches the panics of what it wraps. See the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct CatchPanicLayer;

impl<S> Layer<S> for CatchPanicLayer {
    type Service = CatchPanic<S>;

    fn layer(&self, inner: S) -> CatchPanic<S> {
        CatchPanic { inner }
    }
}

/// See [`CatchPanicLayer`].
#[derive(Clone, Debug)]
pub struct CatchPanic<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for CatchPanic<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible>,
    R: http_body::Body<Data = Bytes>,
{
    type Response = Response<CaughtBody<R>>;
    type Error = Infallible;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // What a panic leaves half done belongs to this request alone and is dropped with it.
        let inner = catch_unwind(AssertUnwindSafe(|| self.inner.call(request)));
        ResponseFuture { inner: inner.map_err(|payload| note(&*payload)).ok() }
    }
}

pin_project! {
    /// The response, or 500 / INTERNAL when the handler panicked.
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: Option<F>,
    }
}

impl<F, R> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, Infallible>>,
{
    type Output = Result<Response<CaughtBody<R>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(inner) = this.inner.as_mut().as_pin_mut() {
            match catch_unwind(AssertUnwindSafe(|| inner.poll(cx))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(Ok(response))) => {
                    return Poll::Ready(Ok(response.map(|body| CaughtBody { inner: Some(body), refusal: None })));
                }
                Err(payload) => {
                    note(&*payload);
                    this.inner.set(None);
                }
            }
        }
        let protocol = RequestContext::with_current(|c| c.map_or(Protocol::Http, RequestContext::protocol));
        Poll::Ready(Ok(reject(Cause::Internal, protocol).map(|body| CaughtBody { inner: None, refusal: Some(body) })))
    }
}

/// Leaves word of the panic for the observer, who sees the request end.
fn note(payload: &(dyn Any + Send)) {
    RequestContext::with_current(|context| {
        if let Some(context) = context {
            let _ = context.0.panic.set(panic_message(payload).into());
        }
    });
}

pin_project! {
    /// A body whose own panic breaks it off instead of taking the connection, and its other streams, along.
    #[derive(Debug)]
    pub struct CaughtBody<B> {
        #[pin]
        inner: Option<B>,
        refusal: Option<Body>,
    }
}

impl<B> http_body::Body for CaughtBody<B>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        if let Some(refusal) = this.refusal {
            return Pin::new(refusal).poll_frame(cx).map(|frame| frame.map(|result| result.map_err(Into::into)));
        }
        let Some(inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        match catch_unwind(AssertUnwindSafe(|| inner.poll_frame(cx))) {
            Ok(polled) => polled.map(|frame| frame.map(|result| result.map_err(Into::into))),
            Err(payload) => {
                this.inner.set(None);
                note(&*payload);
                Poll::Ready(Some(Err("the handler's body panicked".into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match (&self.inner, &self.refusal) {
            (Some(inner), _) => inner.is_end_stream(),
            (None, Some(refusal)) => refusal.is_end_stream(),
            (None, None) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.inner, &self.refusal) {
            (Some(inner), _) => inner.size_hint(),
            (None, Some(refusal)) => refusal.size_hint(),
            (None, None) => SizeHint::with_exact(0),
        }
    }
}
