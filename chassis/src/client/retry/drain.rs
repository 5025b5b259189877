//! What becomes of an answer while the next attempt is made.

use std::{
    collections::VecDeque,
    fmt,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::Buf as _;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, timeout_at};

/// How much of an answer is read so that its connection can be used again: 8 KiB. Chosen: a problem document or an error
/// page fits, and what is larger costs more than a new connection on the same network.
pub(crate) const DRAIN_LIMIT: u64 = 8 * 1024;

/// Reads a small answer to its end until then, or lets go of it: over HTTP/1.1 a connection whose answer was not read to its
/// end is closed, and a storm of failures would become a storm of connections. What was read is kept, for the retry may not
/// be sent; `None` when that is not all.
///
/// It takes no longer than the wait that there is anyway; what is there already is always read.
pub(crate) async fn drop_or_keep<B: Body>(body: B, until: Instant) -> Option<Kept<B::Data>> {
    if body.is_end_stream() {
        return Some(Kept::default());
    }
    if body.size_hint().lower() > DRAIN_LIMIT {
        return None;
    }
    let mut body = pin!(body);
    let drain = async {
        let (mut read, mut frames) = (0, VecDeque::new());
        while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            let frame = frame.ok()?;
            read += frame.data_ref().map_or(0, |data| data.remaining() as u64);
            if read > DRAIN_LIMIT {
                return None;
            }
            frames.push_back(frame);
        }
        Some(Kept { frames, left: read })
    };
    timeout_at(until, drain).await.ok().flatten()
}

/// All of a body, in memory.
pub(crate) struct Kept<D> {
    frames: VecDeque<Frame<D>>,
    /// Bytes of data in them.
    left: u64,
}

impl<D> Default for Kept<D> {
    fn default() -> Self {
        Self { frames: VecDeque::new(), left: 0 }
    }
}

pin_project! {
    /// The body of an answer as it comes in; or kept in memory, when the retry after it could not be sent.
    pub struct RetryBody<B: Body> {
        #[pin]
        inner: Inner<B, B::Data>,
    }
}

pin_project! {
    #[project = InnerProjection]
    enum Inner<B, D> {
        Live { #[pin] body: B },
        Kept { kept: Kept<D> },
    }
}

impl<B: Body> RetryBody<B> {
    pub(crate) fn live(body: B) -> Self {
        Self { inner: Inner::Live { body } }
    }

    pub(crate) fn kept(kept: Kept<B::Data>) -> Self {
        Self { inner: Inner::Kept { kept } }
    }
}

impl<B: Body> Body for RetryBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match self.project().inner.project() {
            InnerProjection::Live { body } => body.poll_frame(cx),
            InnerProjection::Kept { kept } => {
                let frame = kept.frames.pop_front();
                let read = frame.as_ref().and_then(Frame::data_ref).map_or(0, |data| data.remaining() as u64);
                kept.left -= read;
                Poll::Ready(frame.map(Ok))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Live { body } => body.is_end_stream(),
            Inner::Kept { kept } => kept.frames.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Live { body } => body.size_hint(),
            Inner::Kept { kept } => SizeHint::with_exact(kept.left),
        }
    }
}

impl<B: Body> fmt::Debug for RetryBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RetryBody")
    }
}
