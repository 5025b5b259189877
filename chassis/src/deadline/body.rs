use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::BoxError;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Sleep;

use super::layer::expired;
use crate::{cause::Cause, clock, context::RequestContext};

/// The number of bytes that are handed on after the deadline, if they lie ready then.
///
/// A whole answer in memory is one frame or a few, and the caller gets it. Chosen: as in a client's answers, a stream's
/// window of hyper.
const LATE_LIMIT: usize = 2 * 1024 * 1024;
/// The least that a frame counts for in it, so that empty ones come to an end. Chosen: 2,048 of them.
const LATE_FRAME: usize = 1024;
/// The least time that a body has from its head on: what lies ready may be handed on with pauses, as streams in memory do that
/// let other tasks run. Chosen: above such a pause, below what a caller notices.
const MOMENT: Duration = Duration::from_millis(10);

pin_project! {
    /// A response body that ends when the caller's time is up, unless the rest of it lies ready.
    pub struct DeadlineBody<B> {
        #[pin]
        inner: Option<B>,
        // The request and its caller's own deadline.
        limit: Option<(RequestContext, Instant)>,
        // When a wait of the body ends.
        until: Option<Instant>,
        // The bytes that were handed on after the deadline.
        late: usize,
        sleep: Option<Pin<Box<Sleep>>>,
    }
}

impl<B> DeadlineBody<B> {
    pub(super) fn new(inner: B, limit: Option<(RequestContext, Instant)>) -> Self {
        let until = limit.as_ref().map(|(_, deadline)| (*deadline).max(clock::now() + MOMENT));
        Self { inner: Some(inner), limit, until, late: 0, sleep: None }
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
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        let into = |frame: Option<Result<Frame<Bytes>, B::Error>>| frame.map(|result| result.map_err(Into::into));
        let Some((context, deadline)) = this.limit.as_ref() else { return inner.poll_frame(cx).map(into) };
        // The body first: an answer that is whole is worth more to its caller than the news that it came late, and that news
        // is such an answer itself. What is ready without an end meets the limit.
        if *this.late < LATE_LIMIT {
            match inner.poll_frame(cx) {
                Poll::Ready(frame) => {
                    if clock::now() >= *deadline {
                        let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
                        *this.late += data.map_or(0, Bytes::len).max(LATE_FRAME);
                    }
                    return Poll::Ready(into(frame));
                }
                Poll::Pending if !expired(this.sleep, this.until.unwrap_or(*deadline), cx) => return Poll::Pending,
                Poll::Pending => {}
            }
        }
        // The handler's work ends here.
        this.inner.set(None);
        tracing::debug!(cause = Cause::DeadlineExceeded.as_str(), "the caller's time ended while the body was sent");
        // Trailers would end the body of an HTTP route as if it were whole, whatever its caller claims to speak.
        Poll::Ready(Some(if context.0.rpc {
            Ok(Frame::trailers(trailers()))
        } else {
            Err(io::Error::new(io::ErrorKind::TimedOut, "the caller's deadline has passed").into())
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
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
        f.debug_struct("DeadlineBody").field("ended", &self.inner.is_none()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Body as AxumBody;
    use http_body_util::BodyExt;
    use tonic::codegen::tokio_stream::{self, StreamExt};

    use super::*;
    use crate::context::TraceContext;

    /// The body of an answer whose caller waits so long from now.
    fn limited(inner: AxumBody, left: Duration) -> DeadlineBody<AxumBody> {
        let context = RequestContext::of_trace(TraceContext {
            trace_id: opentelemetry::trace::TraceId::from(1),
            span_id: opentelemetry::trace::SpanId::from(1),
            parent_id: None,
            flags: opentelemetry::trace::TraceFlags::default(),
            state: None,
        });
        DeadlineBody::new(inner, Some((context, clock::now() + left)))
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_lies_ready_is_delivered_after_the_deadline() {
        let parts = tokio_stream::iter(["a", "b", "c"].map(Ok::<_, std::io::Error>));
        for whole in [AxumBody::from("abc"), AxumBody::from_stream(parts)] {
            let body = limited(whole, Duration::from_secs(1));
            tokio::time::advance(Duration::from_secs(2)).await;
            assert_eq!(body.collect().await.expect("a whole body").to_bytes(), "abc");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_at_the_deadline_whether_it_waits_or_not() {
        let first = || tokio_stream::once(Ok::<_, std::io::Error>("a"));
        let waiting = AxumBody::from_stream(first().chain(tokio_stream::pending()));
        let mut body = limited(waiting, Duration::from_secs(1));
        assert!(body.frame().await.is_some_and(|frame| frame.is_ok()));
        let before = tokio::time::Instant::now();
        assert!(body.frame().await.is_some_and(|frame| frame.is_err()));
        assert_eq!(before.elapsed(), Duration::from_secs(1));
        assert!(body.is_end_stream() && body.frame().await.is_none());

        let endless = tokio_stream::iter(std::iter::repeat(Ok::<_, Infallible>(Bytes::from_static(&[0; 4096]))));
        let mut body = limited(AxumBody::from_stream(endless), Duration::ZERO);
        let mut frames = 0;
        while body.frame().await.is_some_and(|frame| frame.is_ok()) {
            frames += 1;
        }
        assert_eq!(frames, LATE_LIMIT / 4096);
    }
}
