//! The close of a connection in stages (RFC 9112, section 9.6).
//!
//! A socket that is closed while bytes lie unread in it, or still arrive, resets the connection, and the reset takes away
//! what the caller has not read yet: the early answer to a large upload, or the last GOAWAY. So this side half-closes, and
//! reads on until the caller closes too. The wait has bounds, in time and in bytes.

use std::{
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// The longest silence of the caller. nginx's `lingering_timeout`.
const QUIET: Duration = Duration::from_secs(5);
/// The same once the service stops. Chosen: above any round trip, below what delays a stop.
const QUIET_AT_STOP: Duration = Duration::from_millis(500);
/// The longest wait in all. nginx's `lingering_time`.
const LONGEST: Duration = Duration::from_secs(30);
/// The most bytes that are read and thrown away over HTTP/1.1. Chosen: far above uploads that are sent in one go.
pub(super) const MOST_HTTP1: u64 = 256 << 20;
/// The same over HTTP/2, where no more than a connection's window, hyper's 1 MiB, can be on its way.
pub(super) const MOST_HTTP2: u64 = 4 << 20;
/// The size of one read, in bytes. Chosen: small enough for the stack.
const READ: usize = 16 << 10;

/// The wait for the caller's own close.
#[derive(Debug)]
pub(super) struct Linger {
    since: Instant,
    heard: Instant,
    read: u64,
    most: u64,
    sleep: Pin<Box<Sleep>>,
}

impl Linger {
    /// `most` is in bytes.
    pub(super) fn new(most: u64) -> Self {
        let now = Instant::now();
        Self { since: now, heard: now, read: 0, most, sleep: Box::pin(sleep_until(now + QUIET)) }
    }

    /// Reads and throws away; ready when the caller has closed, or at one of the bounds.
    pub(super) fn poll<T: AsyncRead>(
        &mut self,
        mut stream: Pin<&mut T>,
        stopping: bool,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let before = self.read;
        loop {
            let mut space = [MaybeUninit::<u8>::uninit(); READ];
            let mut bytes = ReadBuf::uninit(&mut space);
            match stream.as_mut().poll_read(cx, &mut bytes) {
                Poll::Ready(Ok(())) if !bytes.filled().is_empty() => self.read += bytes.filled().len() as u64,
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
            if self.read >= self.most {
                return Poll::Ready(());
            }
        }
        if self.read > before {
            self.heard = Instant::now();
        }
        let due = self.due(stopping);
        self.sleep.as_mut().reset(due);
        self.sleep.as_mut().poll(cx)
    }

    fn due(&self, stopping: bool) -> Instant {
        let quiet = if stopping { QUIET_AT_STOP } else { QUIET };
        (self.heard + quiet).min(self.since + LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    async fn linger(stream: &mut (impl AsyncRead + Unpin), stopping: bool) -> (Duration, u64) {
        let mut linger = Linger::new(MOST_HTTP2);
        let since = Instant::now();
        poll_fn(|cx| linger.poll(Pin::new(stream), stopping, cx)).await;
        (since.elapsed(), linger.read)
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_ends_with_the_callers_close() {
        let (mut here, mut caller) = duplex(1 << 20);
        caller.write_all(&[b'a'; 100_000]).await.expect("room");
        drop(caller);
        assert_eq!(linger(&mut here, false).await, (Duration::ZERO, 100_000));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_caller_is_left_after_a_while() {
        for (stopping, wait) in [(false, QUIET), (true, QUIET_AT_STOP)] {
            let (mut here, _caller) = duplex(1 << 20);
            assert_eq!(linger(&mut here, stopping).await.0, wait);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_trickles_is_left_as_well() {
        let (mut here, mut caller) = duplex(1 << 20);
        let trickle = async {
            while caller.write_all(b"a").await.is_ok() {
                tokio::time::sleep(QUIET * 13 / 25).await;
            }
        };
        let waited = async {
            let waited = linger(&mut here, false).await;
            drop(here);
            waited
        };
        let ((waited, read), ()) = tokio::join!(waited, trickle);
        assert_eq!((waited, read), (LONGEST, 12));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_sends_without_end_is_left_as_well() {
        let (waited, read) = linger(&mut tokio::io::repeat(b'a'), false).await;
        assert_eq!((waited, read), (Duration::ZERO, MOST_HTTP2));
    }
}
