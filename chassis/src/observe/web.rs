//! What a gRPC-Web call ended with, noted where its trailers are still trailers.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::exchange::grpc_code;
use crate::context::{Protocol, RequestContext};

/// Notes the status of gRPC-Web calls for the observer, who sees them translated. Goes inside of the layer that does so.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GrpcWebStatusLayer;

impl<S> Layer<S> for GrpcWebStatusLayer {
    type Service = GrpcWebStatus<S>;

    fn layer(&self, inner: S) -> GrpcWebStatus<S> {
        GrpcWebStatus { inner }
    }
}

/// See [`GrpcWebStatusLayer`].
#[derive(Clone, Debug)]
pub(crate) struct GrpcWebStatus<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for GrpcWebStatus<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<NotedBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let context = request.extensions().get::<RequestContext>();
        let context = context.filter(|context| context.protocol() == Protocol::GrpcWeb).cloned();
        ResponseFuture { inner: self.inner.call(request), context }
    }
}

pin_project! {
    /// The response, its status noted.
    #[derive(Debug)]
    pub(crate) struct ResponseFuture<F> {
        #[pin]
        inner: F,
        context: Option<RequestContext>,
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<NotedBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        let context = this.context.take();
        if let (Some(context), Some(code)) = (&context, grpc_code(response.headers())) {
            context.note_code(code);
        }
        Poll::Ready(Ok(response.map(|inner| NotedBody { inner, context })))
    }
}

pin_project! {
    /// A body whose trailers are noted.
    #[derive(Debug)]
    pub(crate) struct NotedBody<B> {
        #[pin]
        inner: B,
        context: Option<RequestContext>,
    }
}

impl<B: Body> Body for NotedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(cx));
        if let (Some(context), Some(Ok(frame))) = (this.context, &frame)
            && let Some(code) = frame.trailers_ref().and_then(grpc_code)
        {
            context.note_code(code);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
