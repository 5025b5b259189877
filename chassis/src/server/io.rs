//! The socket as hyper wants it: the bytes that were read to learn the protocol are put back in front, and the close is one
//! in stages.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    sync::oneshot,
};

use super::linger::{Linger, MOST_HTTP1, MOST_HTTP2};
use crate::{
    observe::connection::Connection,
    shutdown::{Phase, Shutdown},
};

/// What an HTTP/2 connection with prior knowledge begins with (RFC 9113, section 3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Enough for the head of nearly every first request, so that it is read in one go.
const FIRST_READ: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

/// The first bytes of a connection and what they say of its protocol.
pub(crate) struct Opening {
    pub(crate) version: Version,
    bytes: Box<[u8]>,
}

/// Reads until the protocol is clear; `None` when the caller closed before it said anything.
pub(crate) async fn read_opening<T: AsyncRead + Unpin>(stream: &mut T) -> io::Result<Option<Opening>> {
    let mut buffer = [0; FIRST_READ];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 && filled == 0 {
            return Ok(None);
        }
        filled += read;
        if let Some(version) = version_of(&buffer[..filled], read == 0) {
            return Ok(Some(Opening { version, bytes: buffer[..filled].into() }));
        }
    }
}

/// What the bytes so far say; `None` while they may still become the HTTP/2 preface.
fn version_of(bytes: &[u8], ended: bool) -> Option<Version> {
    let compared = bytes.len().min(H2_PREFACE.len());
    if bytes[..compared] != H2_PREFACE[..compared] || (ended && compared < H2_PREFACE.len()) {
        Some(Version::Http1)
    } else {
        (compared == H2_PREFACE.len()).then_some(Version::Http2)
    }
}

/// A wait that a socket keeps from one read to the next.
type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

pin_project! {
    pub(crate) struct Io<T> {
        #[pin]
        stream: T,
        opening: Box<[u8]>,
        given: usize,
        version: Version,
        connection: Arc<Connection>,
        shutdown: Shutdown,
        linger: Option<Linger>,
        cut: Option<Wait>,
        // Its other end sees that the socket is gone, whoever has it by then.
        _alive: Alive,
    }
}

/// Held by a socket for as long as it is there.
pub(crate) type Alive = oneshot::Sender<Infallible>;

impl<T> Io<T> {
    pub(crate) fn new(
        stream: T,
        opening: Opening,
        connection: Arc<Connection>,
        shutdown: Shutdown,
        alive: Alive,
    ) -> Self {
        let version = opening.version;
        Self {
            stream,
            opening: opening.bytes,
            given: 0,
            version,
            connection,
            shutdown,
            linger: None,
            cut: None,
            _alive: alive,
        }
    }
}

/// Whether the socket of an upgraded connection is to be cut: its handler has it, and no watch looks after it any more.
/// Wakes the reader when that comes; the handler ends with its read.
fn poll_cut(cut: &mut Option<Wait>, connection: &Connection, shutdown: &Shutdown, cx: &mut Context<'_>) -> Poll<()> {
    if !connection.is_upgraded() {
        return Poll::Pending;
    }
    let cut = cut.get_or_insert_with(|| {
        let shutdown = shutdown.clone();
        Box::pin(async move { shutdown.reached(Phase::Cutting).await })
    });
    cut.as_mut().poll(cx)
}

fn was_cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the service has stopped")
}

impl<T: AsyncRead> AsyncRead for Io<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        if poll_cut(this.cut, this.connection, this.shutdown, cx).is_ready() {
            return Poll::Ready(Err(was_cut()));
        }
        if *this.given < this.opening.len() {
            let rest = &this.opening[*this.given..];
            let count = rest.len().min(buffer.remaining());
            buffer.put_slice(&rest[..count]);
            *this.given += count;
            if *this.given == this.opening.len() {
                *this.opening = Box::default();
                *this.given = 0;
            }
            this.connection.bytes_arrived();
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(this.stream.poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            this.connection.bytes_arrived();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite> AsyncWrite for Io<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.project();
        if this.connection.is_upgraded() && this.shutdown.phase() >= Phase::Cutting {
            return Poll::Ready(Err(was_cut()));
        }
        let written = this.stream.poll_write(cx, bytes);
        this.connection.wrote(written.is_pending());
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        if this.connection.is_upgraded() && this.shutdown.phase() >= Phase::Cutting {
            return Poll::Ready(Err(was_cut()));
        }
        let written = this.stream.poll_write_vectored(cx, slices);
        this.connection.wrote(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_flush(cx)
    }

    /// Half-closes, and waits for the other side to do the same. An upgraded stream is the handler's: it may go on to read.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut this = self.project();
        if this.linger.is_none() {
            ready!(this.stream.as_mut().poll_shutdown(cx))?;
            if this.connection.is_upgraded() || this.connection.ends_idle() {
                return Poll::Ready(Ok(()));
            }
            this.connection.close();
        }
        let stopping = this.shutdown.phase() >= Phase::Stopping;
        let most = if *this.version == Version::Http2 { MOST_HTTP2 } else { MOST_HTTP1 };
        this.linger.get_or_insert_with(|| Linger::new(most)).poll(this.stream, stopping, cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    async fn opening_of(chunks: &[&[u8]]) -> Option<(Version, Vec<u8>)> {
        let mut script = tokio_test_stream(chunks);
        read_opening(&mut script).await.unwrap().map(|opening| (opening.version, opening.bytes.to_vec()))
    }

    /// A reader that gives one chunk at a read, then the end.
    fn tokio_test_stream(chunks: &[&[u8]]) -> impl AsyncRead + Unpin {
        struct Chunks(std::collections::VecDeque<Vec<u8>>);
        impl AsyncRead for Chunks {
            fn poll_read(
                mut self: Pin<&mut Self>,
                _: &mut Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                if let Some(chunk) = self.0.pop_front() {
                    buffer.put_slice(&chunk);
                }
                Poll::Ready(Ok(()))
            }
        }
        Chunks(chunks.iter().map(|chunk| chunk.to_vec()).collect())
    }

    #[tokio::test]
    async fn the_preface_is_known_in_one_piece_and_in_many() {
        assert_eq!(opening_of(&[H2_PREFACE]).await, Some((Version::Http2, H2_PREFACE.to_vec())));
        let single: Vec<&[u8]> = H2_PREFACE.chunks(1).collect();
        assert_eq!(opening_of(&single).await, Some((Version::Http2, H2_PREFACE.to_vec())));
    }

    #[tokio::test]
    async fn what_only_looks_like_the_preface_at_first_is_http1() {
        assert_eq!(opening_of(&[b"PR", b"OPFIND / HTTP/1.1\r\n"]).await.map(|o| o.0), Some(Version::Http1));
        assert_eq!(opening_of(&[b"PRI * HT"]).await.map(|o| o.0), Some(Version::Http1));
    }

    #[tokio::test]
    async fn a_caller_that_closes_without_a_word_is_nobody() {
        assert_eq!(opening_of(&[]).await, None);
    }
}
