use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use axum::BoxError;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Sleep;

use super::layer::expired;
use crate::{cause::Cause, context::RequestContext};

pin_project! {
    /// A response body that ends when the caller's time is up.
    pub struct DeadlineBody<B> {
        #[pin]
        inner: B,
        // The request and its caller's own deadline.
        limit: Option<(RequestContext, Instant)>,
        sleep: Option<Pin<Box<Sleep>>>,
        over: bool,
    }
}

impl<B> DeadlineBody<B> {
    pub(super) fn new(inner: B, limit: Option<(RequestContext, Instant)>) -> Self {
        Self { inner, limit, sleep: None, over: false }
    }
}

impl<B> Body for DeadlineBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        if *this.over {
            return Poll::Ready(None);
        }
        // The time first: a stream that always has something to send would never meet its deadline.
        let over = this.limit.as_ref().filter(|(_, deadline)| expired(this.sleep, *deadline, cx));
        let Some((context, _)) = over else {
            return this.inner.poll_frame(cx).map(|frame| frame.map(|result| result.map_err(Into::into)));
        };
        *this.over = true;
        tracing::debug!(cause = Cause::DeadlineExceeded.as_str(), "the caller's time ended while the body was sent");
        // Trailers would end the body of an HTTP route as if it were whole, whatever its caller claims to speak.
        Poll::Ready(Some(if context.0.rpc {
            Ok(Frame::trailers(trailers()))
        } else {
            Err(io::Error::new(io::ErrorKind::TimedOut, "the caller's deadline has passed").into())
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

const MESSAGE: &str = "the deadline has passed";

fn trailers() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert("grpc-status", HeaderValue::from_static("4"));
    trailers.insert("grpc-message", HeaderValue::from_static(MESSAGE));
    trailers
}

impl<B> std::fmt::Debug for DeadlineBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeadlineBody").field("over", &self.over).finish_non_exhaustive()
    }
}
