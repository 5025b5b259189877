//! Bodies of calls out: requests that can be sent again, answers whose end somebody waits for.

use std::{
    any::Any,
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::error::BoxError;

/// How much of a streamed body is kept for a second attempt: 64 KiB, as Linkerd has it.
pub(crate) const REPLAY_LIMIT: usize = 64 * 1024;
/// In how many frames: a stream of empty ones would be taken in for ever. Chosen: frames of 1 KiB fill the limit.
const REPLAY_FRAMES: usize = REPLAY_LIMIT / 1024;

/// The body of a request out: whole in memory, so that it can be sent again, or a stream that is sent once.
#[derive(Default)]
pub struct RequestBody(Inner);

#[derive(Default)]
enum Inner {
    #[default]
    Empty,
    Whole(Bytes),
    Stream(Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>),
}

impl RequestBody {
    /// A body that is sent once. What of it is there at once, up to 64 KiB in 64 frames, is taken in; if that was all of it, as with a
    /// unary gRPC call, it can be sent again.
    pub fn stream<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        use http_body_util::BodyExt as _;

        let mut body = body.map_err(Into::into).boxed_unsync();
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut first: Option<Bytes> = None;
        let mut more = BytesMut::new();
        let mut frames = 0;
        loop {
            if body.is_end_stream() {
                break;
            }
            let taken = first.as_ref().map_or(0, Bytes::len) + more.len();
            if taken >= REPLAY_LIMIT || frames >= REPLAY_FRAMES {
                return Self::rest(first, more, None, body);
            }
            frames += 1;
            match Pin::new(&mut body).poll_frame(&mut context) {
                Poll::Ready(None) => break,
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if first.is_none() => first = Some(data),
                    Ok(data) => more.extend_from_slice(&data),
                    Err(frame) => return Self::rest(first, more, Some(Ok(frame)), body),
                },
                Poll::Ready(Some(Err(error))) => return Self::rest(first, more, Some(Err(error)), body),
                Poll::Pending => return Self::rest(first, more, None, body),
            }
        }
        Self::from(joined(first, more))
    }

    fn rest(
        first: Option<Bytes>,
        more: BytesMut,
        next: Option<Result<Frame<Bytes>, BoxError>>,
        body: http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>,
    ) -> Self {
        let taken = Some(joined(first, more)).filter(|bytes| !bytes.is_empty());
        Self(Inner::Stream(Box::pin(Resumed { taken, next, rest: body })))
    }

    /// The same body again, unless it is a stream.
    #[must_use]
    pub fn try_clone(&self) -> Option<Self> {
        match &self.0 {
            Inner::Empty => Some(Self(Inner::Empty)),
            Inner::Whole(bytes) => Some(Self(Inner::Whole(bytes.clone()))),
            Inner::Stream(_) => None,
        }
    }
}

fn joined(first: Option<Bytes>, more: BytesMut) -> Bytes {
    match first {
        None => more.freeze(),
        Some(first) if more.is_empty() => first,
        Some(first) => [first.as_ref(), more.as_ref()].concat().into(),
    }
}

impl From<Bytes> for RequestBody {
    fn from(bytes: Bytes) -> Self {
        Self(if bytes.is_empty() { Inner::Empty } else { Inner::Whole(bytes) })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.get_mut().0 {
            Inner::Empty => Poll::Ready(None),
            Inner::Stream(body) => body.as_mut().poll_frame(cx),
            whole => match std::mem::take(whole) {
                Inner::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Inner::Empty | Inner::Stream(_) => Poll::Ready(None),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Empty => true,
            Inner::Whole(_) => false,
            Inner::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Empty => SizeHint::with_exact(0),
            Inner::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Stream(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Empty => f.write_str("RequestBody(empty)"),
            Inner::Whole(bytes) => write!(f, "RequestBody({} bytes)", bytes.len()),
            Inner::Stream(_) => f.write_str("RequestBody(stream)"),
        }
    }
}

/// What was taken in of a stream, then the rest of it.
struct Resumed {
    taken: Option<Bytes>,
    next: Option<Result<Frame<Bytes>, BoxError>>,
    rest: http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>,
}

impl Body for Resumed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(bytes) = self.taken.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if let Some(frame) = self.next.take() {
            return Poll::Ready(Some(frame));
        }
        Pin::new(&mut self.rest).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.taken.is_none() && self.next.is_none() && self.rest.is_end_stream()
    }
}

/// Told how the body of an answer ends. Dropped without a word, the one who asked has lost interest.
pub trait Watch {
    /// A part of it is there.
    fn data(&mut self) {}

    /// The trailers are there; the end follows.
    fn trailers(&mut self, trailers: &HeaderMap) {
        let _ = trailers;
    }

    /// All of it has come.
    fn complete(self);

    /// It broke off, with this error when its type is known.
    fn broke_off(self, error: Option<&(dyn Error + 'static)>);
}

pin_project! {
    /// The body of an answer, whose end somebody is told of.
    pub struct WatchedBody<B, W> {
        #[pin]
        inner: B,
        watch: Option<W>,
        // As the inner body said after its last frame: with several of these in each other, each asks the next one only.
        ended: bool,
    }
}

impl<B: Body, W: Watch> WatchedBody<B, W> {
    pub(crate) fn new(inner: B, watch: W) -> Self {
        // Nobody polls a body that says it has ended.
        if inner.is_end_stream() {
            watch.complete();
            return Self { inner, watch: None, ended: true };
        }
        Self { inner, watch: Some(watch), ended: false }
    }

    /// A body that nobody waits for.
    pub(crate) fn unwatched(inner: B) -> Self {
        let ended = inner.is_end_stream();
        Self { inner, watch: None, ended }
    }
}

impl<B: Body, W: Watch> Body for WatchedBody<B, W>
where
    B::Error: 'static,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let polled = this.inner.as_mut().poll_frame(cx);
        if let Poll::Ready(frame) = &polled {
            match frame {
                Some(Ok(frame)) => {
                    if let Some(watch) = this.watch.as_mut() {
                        match frame.trailers_ref() {
                            Some(trailers) => watch.trailers(trailers),
                            None => watch.data(),
                        }
                    }
                    *this.ended = this.inner.is_end_stream();
                    if *this.ended
                        && let Some(watch) = this.watch.take()
                    {
                        watch.complete();
                    }
                }
                Some(Err(error)) => {
                    if let Some(watch) = this.watch.take() {
                        let error = (error as &dyn Any).downcast_ref::<BoxError>();
                        watch.broke_off(error.map(|error| &**error as &(dyn Error + 'static)));
                    }
                }
                None => {
                    *this.ended = true;
                    if let Some(watch) = this.watch.take() {
                        watch.complete();
                    }
                }
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B: fmt::Debug, W> fmt::Debug for WatchedBody<B, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedBody").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    /// Ready frames of this content, this many.
    struct Ready(usize, &'static [u8]);

    impl futures_core::Stream for Ready {
        type Item = Result<Frame<Bytes>, BoxError>;

        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            let Some(left) = self.0.checked_sub(1) else { return Poll::Ready(None) };
            self.0 = left;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(self.1)))))
        }
    }

    #[tokio::test]
    async fn a_stream_of_empty_frames_is_not_taken_in_for_ever() {
        let endless = RequestBody::stream(StreamBody::new(Ready(usize::MAX, b"")));
        assert!(endless.try_clone().is_none(), "a stream");
    }

    #[tokio::test]
    async fn what_is_there_at_once_is_taken_in_and_the_rest_follows() {
        let few = RequestBody::stream(StreamBody::new(Ready(3, b"abc")));
        assert!(few.try_clone().is_some(), "whole");
        assert_eq!(few.collect().await.unwrap().to_bytes(), "abcabcabc");
        let many = RequestBody::stream(StreamBody::new(Ready(REPLAY_FRAMES + 2, b"x")));
        assert!(many.try_clone().is_none());
        assert_eq!(many.collect().await.unwrap().to_bytes().len(), REPLAY_FRAMES + 2);
    }
}
