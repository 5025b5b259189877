//! The largest request body a service reads: 413 when the announced length is over it, an error to the reader when more comes.
//!
//! gRPC bodies are streams of messages, each of which tonic limits (4 MiB unless the server says otherwise), so they are
//! not limited as a whole.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::atomic::Ordering,
    task::{Context, Poll},
};

use axum::{BoxError, body::Body, extract::DefaultBodyLimit};
use bytes::Bytes;
use http::{Request, Response, header::CONTENT_LENGTH};
use http_body::{Frame, SizeHint};
use http_body_util::Limited;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    cause::Cause,
    context::{Protocol, RequestContext},
    reject::reject,
};

/// Limits request bodies to a number of bytes. See the [module](self).
#[derive(Clone, Copy, Debug)]
pub struct BodyLimitLayer {
    limit: u64,
}

impl BodyLimitLayer {
    /// `limit` is in bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self { limit }
    }
}

impl<S> Layer<S> for BodyLimitLayer {
    type Service = BodyLimit<S>;

    fn layer(&self, inner: S) -> BodyLimit<S> {
        BodyLimit { inner, limit: self.limit }
    }
}

/// See [`BodyLimitLayer`].
#[derive(Clone, Debug)]
pub struct BodyLimit<S> {
    inner: S,
    limit: u64,
}

impl<S, B> Service<Request<B>> for BodyLimit<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // Most requests have no body at all, and an empty one costs no box.
        if request.body().is_end_stream() {
            return ResponseFuture::served(self.inner.call(request.map(|_| Body::empty())));
        }
        // This limit counts; axum's own of 2 MB would cut bodies off below it.
        DefaultBodyLimit::disable().apply(&mut request);
        let context = RequestContext::current();
        let (protocol, rpc) = context.as_ref().map_or((Protocol::Http, false), |c| (c.protocol(), c.0.rpc));
        if rpc {
            return ResponseFuture::served(self.inner.call(request.map(Body::new)));
        }
        let announced = request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > self.limit) {
            return ResponseFuture { inner: None, refusal: Some(reject(Cause::PayloadTooLarge, protocol)) };
        }
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let watched = |body| Body::new(Watched { inner: Limited::new(body, limit), context });
        ResponseFuture::served(self.inner.call(request.map(watched)))
    }
}

pin_project! {
    /// The response, or 413.
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: Option<F>,
        refusal: Option<Response<Body>>,
    }
}

impl<F> ResponseFuture<F> {
    fn served(inner: F) -> Self {
        Self { inner: Some(inner), refusal: None }
    }
}

impl<F> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match (this.inner.as_pin_mut(), this.refusal.take()) {
            (Some(inner), _) => inner.poll(cx),
            (None, Some(refusal)) => Poll::Ready(Ok(refusal)),
            // Polled after it was ready, which the contract of Future forbids.
            (None, None) => Poll::Pending,
        }
    }
}

pin_project! {
    /// A request body that notes whether somebody waits for the caller to send the rest of it.
    ///
    /// When the time is up meanwhile, the caller was too slow and not the service: 408 and not 504.
    struct Watched<B> {
        #[pin]
        inner: B,
        context: Option<RequestContext>,
    }

    impl<B> PinnedDrop for Watched<B> {
        fn drop(this: Pin<&mut Self>) {
            note(this.project().context.as_ref(), false);
        }
    }
}

fn note(context: Option<&RequestContext>, waiting: bool) {
    if let Some(context) = context {
        context.0.waits_for_body.store(waiting, Ordering::Relaxed);
    }
}

impl<B: http_body::Body> http_body::Body for Watched<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let polled = this.inner.poll_frame(cx);
        note(this.context.as_ref(), polled.is_pending());
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
