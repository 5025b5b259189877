//! The bytes of a connection, above TLS: the protocol that the other end speaks, and its last words.

use std::{
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

/// The length of a frame's header (RFC 9113, section 4.1).
const FRAME_HEADER: usize = 9;
/// The type of a SETTINGS frame (RFC 9113, section 6.5).
const SETTINGS: u8 = 4;
/// The identifier of `SETTINGS_MAX_CONCURRENT_STREAMS` (RFC 9113, section 6.5.2).
const MAX_CONCURRENT_STREAMS: u16 = 3;
/// The length of one setting.
const SETTING: usize = 6;
/// The most bytes that are looked at. Chosen: a SETTINGS frame with 40 settings; RFC 9113 defines six.
const LOOKED_AT: usize = FRAME_HEADER + 40 * SETTING;

/// The protocol that the first bytes of the other end belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speech {
    Http1,
    Http2 {
        /// How many streams the other end lets this one open, if it says so.
        streams: Option<u32>,
    },
    Tls,
    /// It closed without a byte.
    Nothing,
    Unknown,
}

/// The [`Speech`] of a connection, once it is known.
#[derive(Debug, Default)]
pub(super) struct Heard {
    speech: OnceLock<Speech>,
    known: Notify,
}

impl Heard {
    pub(super) fn get(&self) -> Option<Speech> {
        self.speech.get().copied()
    }

    /// Waits until it is known. For one task.
    pub(super) async fn wait(&self) -> Speech {
        loop {
            let known = self.known.notified();
            if let Some(speech) = self.get() {
                return speech;
            }
            known.await;
        }
    }

    fn set(&self, speech: Speech) {
        let _ = self.speech.set(speech);
        self.known.notify_one();
    }
}

/// Returns the protocol of these first bytes; `None` when more are needed.
fn speech_of(bytes: &[u8]) -> Option<Speech> {
    let starts = |with: &[u8]| bytes.iter().zip(with).all(|(byte, expected)| byte == expected);
    if starts(b"HTTP/") {
        return (bytes.len() >= 5).then_some(Speech::Http1);
    }
    // An alert or a handshake record (RFC 8446, section 5.1).
    if starts(&[0x15, 3]) || starts(&[0x16, 3]) {
        return (bytes.len() >= 2).then_some(Speech::Tls);
    }
    let Some((header, payload)) = bytes.split_at_checked(FRAME_HEADER) else {
        // The first frame is a SETTINGS frame without flags on stream 0; its length is three bytes.
        let may_be = bytes.iter().skip(3).zip([SETTINGS, 0, 0, 0, 0, 0]).all(|(byte, expected)| *byte == expected);
        return if may_be { None } else { Some(Speech::Unknown) };
    };
    if header[3..] != [SETTINGS, 0, 0, 0, 0, 0] {
        return Some(Speech::Unknown);
    }
    let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
    let whole = length.min(LOOKED_AT - FRAME_HEADER);
    if payload.len() < whole {
        return None;
    }
    let mut settings = payload[..whole].chunks_exact(SETTING);
    let streams = settings.rfind(|setting| setting[..2] == MAX_CONCURRENT_STREAMS.to_be_bytes());
    let streams = streams.map(|setting| u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]));
    Some(Speech::Http2 { streams })
}

pin_project! {
    /// A connection whose first bytes are looked at, and which hears the other end out: when it can no longer be written to,
    /// what has been received is still read. A server that closes right after its last GOAWAY, or after an early answer,
    /// resets a connection that is still written to, and what it said lies unread behind the error.
    pub(super) struct Wire<T> {
        #[pin]
        inner: T,
        heard: Arc<Heard>,
        // None once the speech is known.
        first: Option<Vec<u8>>,
        // Writes came to an error.
        broken: bool,
    }
}

impl<T> Wire<T> {
    pub(super) fn new(inner: T) -> (Self, Arc<Heard>) {
        let heard = Arc::<Heard>::default();
        (Self { inner, heard: Arc::clone(&heard), first: Some(Vec::new()), broken: false }, heard)
    }
}

impl<T: AsyncRead> AsyncRead for Wire<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buf.filled().len();
        let read = ready!(this.inner.poll_read(cx, buf));
        if let Some(first) = this.first {
            let new = &buf.filled()[before..];
            first.extend_from_slice(&new[..new.len().min(LOOKED_AT)]);
            let speech = match speech_of(first) {
                None if new.is_empty() && first.is_empty() => Some(Speech::Nothing),
                None if new.is_empty() => Some(Speech::Unknown),
                speech => speech,
            };
            if let Some(speech) = speech {
                this.heard.set(speech);
                *this.first = None;
            }
        }
        Poll::Ready(read)
    }
}

/// What a write came to, and whether all later ones are taken for written: the reader reports the end.
fn heard_out<R>(broken: &mut bool, taken: R, written: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};

    match written {
        Poll::Ready(Err(error)) if matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset) => {
            *broken = true;
            Poll::Ready(Ok(taken))
        }
        written => written,
    }
}

impl<T: AsyncWrite> AsyncWrite for Wire<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.project();
        if *this.broken {
            return Poll::Ready(Ok(bytes.len()));
        }
        heard_out(this.broken, bytes.len(), this.inner.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let length = slices.iter().map(|slice| slice.len()).sum();
        if *this.broken {
            return Poll::Ready(Ok(length));
        }
        heard_out(this.broken, length, this.inner.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        if *this.broken {
            return Poll::Ready(Ok(()));
        }
        heard_out(this.broken, (), this.inner.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        if *this.broken {
            return Poll::Ready(Ok(()));
        }
        heard_out(this.broken, (), this.inner.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(entries: &[(u16, u32)]) -> Vec<u8> {
        let payload: Vec<u8> =
            entries.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[SETTINGS, 0, 0, 0, 0, 0], &payload].concat()
    }

    #[test]
    fn the_first_bytes_say_the_protocol() {
        let http2 = |streams| Some(Speech::Http2 { streams });
        for (bytes, speech) in [
            (b"HTTP/1.1 400 Bad Request\r\n".to_vec(), Some(Speech::Http1)),
            (settings(&[]), http2(None)),
            (settings(&[(4, 65_535), (3, 7)]), http2(Some(7))),
            (vec![0x15, 3, 1, 0, 2, 2, 70], Some(Speech::Tls)),
            (b"220 mail ESMTP".to_vec(), Some(Speech::Unknown)),
        ] {
            assert_eq!(speech_of(&bytes), speech, "{bytes:?}");
        }
    }

    #[test]
    fn a_part_of_the_first_bytes_says_nothing_yet() {
        for whole in [b"HTTP/".to_vec(), settings(&[(3, 100), (4, 1)])] {
            for end in 0..whole.len() {
                assert_eq!(speech_of(&whole[..end]), None, "{end} bytes of {whole:?}");
            }
            assert!(speech_of(&whole).is_some());
        }
    }
}
