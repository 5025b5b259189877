use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::BoxError;
use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use opentelemetry::Context as OtelContext;
use pin_project_lite::pin_project;

use super::{exchange::Exchange, length::Length};
use crate::context::Entered;

pin_project! {
    /// A response body that reports its end: complete, broken off, or dropped because the caller went away.
    ///
    /// It hands over what the answer's head announced: not more, and an error when the inner body ends before.
    pub struct ObservedBody<B> {
        #[pin]
        inner: B,
        exchange: Option<Exchange>,
        otel: Option<OtelContext>,
        // The bytes still to come.
        length: Length,
        stage: Stage,
    }
}

/// How far a body is.
#[derive(Debug)]
enum Stage {
    Going,
    /// The transport sends what it has before it hears of the error: hyper drops what it holds then, the head of the answer
    /// included.
    Failing(BoxError),
    Over,
}

impl<B: Body> ObservedBody<B> {
    pub(super) fn new(inner: B, mut exchange: Option<Exchange>, otel: Option<OtelContext>, length: Length) -> Self {
        if let Some(exchange) = exchange.as_mut().filter(|_| is_whole(length, &inner)) {
            exchange.completed();
        }
        Self { inner, exchange, otel, length, stage: Stage::Going }
    }
}

/// Returns whether the caller has the whole answer. hyper does not poll a body again then, but for trailers of HTTP/2.
fn is_whole(length: Length, inner: &impl Body) -> bool {
    match length {
        Length::NoBody => true,
        Length::Announced(left) => left == 0,
        Length::Open => inner.is_end_stream(),
    }
}

impl<B: Body<Data = Bytes, Error = BoxError>> ObservedBody<B> {
    /// The next frame of the inner body, with the request as the context: a streaming body is the handler's own code.
    fn poll_inner(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        if this.inner.is_end_stream() {
            return Poll::Ready(None);
        }
        let entered = this.exchange.as_ref().map(|exchange| Entered::enter(exchange.context().clone()));
        let attached = this.otel.clone().map(OtelContext::attach);
        let frame = this.inner.poll_frame(cx);
        drop(attached);
        drop(entered);
        frame
    }

    /// Ends the answer with an error, once the transport had the time to send what it has.
    fn fail(self: Pin<&mut Self>, cx: &Context<'_>, error: BoxError) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        if let Some(exchange) = this.exchange.as_mut() {
            exchange.broke_off();
        }
        *this.stage = Stage::Failing(error);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<B: Body<Data = Bytes, Error = BoxError>> Body for ObservedBody<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.is_end_stream() {
            return Poll::Ready(None);
        }
        let this = self.as_mut().project();
        if let Stage::Failing(_) = this.stage
            && let Stage::Failing(error) = std::mem::replace(this.stage, Stage::Over)
        {
            return Poll::Ready(Some(Err(error)));
        }
        if let Some(exchange) = this.exchange.as_mut() {
            exchange.hold(false);
        }
        let frame = ready!(self.as_mut().poll_inner(cx));
        let this = self.as_mut().project();
        let (mut frame, left) = match (frame, *this.length) {
            (Some(Err(error)), _) => return self.fail(cx, error),
            (Some(Ok(frame)), Length::Announced(left)) if left == 0 || frame.is_data() => (frame, Some(left)),
            (Some(Ok(frame)), Length::Open | Length::NoBody) => (frame, None),
            (None | Some(Ok(_)), Length::Announced(left)) if left > 0 => {
                let error = format!("the answer's body ended {left} bytes before its announced length");
                tracing::warn!("{error}");
                return self.fail(cx, io::Error::new(io::ErrorKind::UnexpectedEof, error).into());
            }
            (None | Some(Ok(_)), _) => {
                if let Some(exchange) = this.exchange.as_mut() {
                    exchange.completed();
                }
                return Poll::Ready(None);
            }
        };
        if let Some(left) = left
            && let Some(data) = frame.data_mut()
        {
            // Over HTTP/1.1 hyper cuts off what goes beyond the announced length; over HTTP/2 it does not.
            if left == 0 && data.has_remaining() {
                *this.stage = Stage::Over;
                return Poll::Ready(None);
            }
            data.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            *this.length = Length::Announced(left - data.remaining() as u64);
        }
        if let Some(exchange) = this.exchange.as_mut() {
            if let Some(data) = frame.data_ref() {
                exchange.sent(data.remaining() as u64);
                // Before the last of the answer goes out, and this may be the last sight of the body.
                if is_whole(*this.length, &*this.inner) {
                    exchange.completed();
                }
                exchange.hold(true);
            } else if let Some(trailers) = frame.trailers_ref() {
                exchange.trailers(trailers);
                exchange.completed();
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match (&self.stage, self.length) {
            (Stage::Over, _) | (_, Length::NoBody) => true,
            (Stage::Failing(_), _) => false,
            (Stage::Going, Length::Announced(left)) => left == 0 && self.inner.is_end_stream(),
            (Stage::Going, Length::Open) => self.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            Length::NoBody => SizeHint::with_exact(0),
            Length::Announced(left) => SizeHint::with_exact(left),
            Length::Open => self.inner.size_hint(),
        }
    }
}

impl<B> std::fmt::Debug for ObservedBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObservedBody").field("length", &self.length).finish_non_exhaustive()
    }
}
