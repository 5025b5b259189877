use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use opentelemetry::Context as OtelContext;
use pin_project_lite::pin_project;

use super::exchange::Exchange;
use crate::context::Entered;

pin_project! {
    /// A response body that reports its end: complete, broken off, or dropped because the caller went away.
    pub struct ObservedBody<B> {
        #[pin]
        inner: B,
        exchange: Option<Exchange>,
        otel: Option<OtelContext>,
        length: Option<u64>,
    }
}

impl<B: Body> ObservedBody<B> {
    pub(super) fn new(inner: B, mut exchange: Option<Exchange>, otel: Option<OtelContext>) -> Self {
        let length = inner.size_hint().exact();
        if let Some(exchange) = exchange.as_mut()
            && (inner.is_end_stream() || length == Some(0) || exchange.has_no_body())
        {
            exchange.completed();
        }
        Self { inner, exchange, otel, length }
    }
}

impl<B: Body> Body for ObservedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        if let Some(exchange) = this.exchange.as_mut() {
            exchange.hold(false);
        }
        // A streaming body is the handler's own code: it runs with the request as its context.
        let entered = this.exchange.as_ref().map(|exchange| Entered::enter(exchange.context().clone()));
        let attached = this.otel.clone().map(OtelContext::attach);
        let frame = this.inner.as_mut().poll_frame(cx);
        drop(attached);
        drop(entered);
        let frame = ready!(frame);
        if let Some(exchange) = this.exchange.as_mut() {
            match &frame {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        let sent = exchange.sent(data.remaining() as u64);
                        // hyper does not poll a body again that says it is at its end, or of which it has all the bytes
                        // that were announced, so this is the last sight of it.
                        if this.inner.is_end_stream() || *this.length == Some(sent) {
                            exchange.completed();
                        }
                        exchange.hold(true);
                    } else if let Some(trailers) = frame.trailers_ref() {
                        exchange.trailers(trailers);
                        exchange.completed();
                    }
                }
                Some(Err(_)) => exchange.broke_off(),
                None => exchange.completed(),
            }
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

impl<B> std::fmt::Debug for ObservedBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObservedBody").finish_non_exhaustive()
    }
}
