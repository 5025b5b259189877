//! A TCP connection that its pool can look at while hyper reads and writes it.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A TCP connection in two hands: hyper reads and writes it, and the pool asks whether anything has come that no request asked
/// for.
#[derive(Debug)]
pub(crate) struct Socket(Arc<TcpStream>);

/// The pool's hand on a [`Socket`]; it travels in [`Connected`]. It does not hold the connection open.
#[derive(Debug, Clone)]
pub(super) struct Line(Weak<TcpStream>);

impl Socket {
    pub(super) fn new(tcp: TcpStream) -> Self {
        Self(Arc::new(tcp))
    }
}

impl Line {
    /// Returns whether nothing has come: no bytes, no end, no error. The kernel is asked, so that bytes count of which the
    /// runtime has not heard yet.
    pub(super) fn is_quiet(&self) -> bool {
        let Some(tcp) = self.0.upgrade() else { return false };
        let mut byte = [MaybeUninit::uninit()];
        match socket2::SockRef::from(&*tcp).peek(&mut byte) {
            Ok(_) => false,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

impl Connection for Socket {
    fn connected(&self) -> Connected {
        // With the addresses of both ends, which the observers of attempts read.
        self.0.connected().extra(Line(Arc::downgrade(&self.0)))
    }
}

/// Tries until the socket is not ready, as the halves of tokio's own split do.
macro_rules! when_ready {
    ($cx:expr, $tcp:expr, $ready:ident, $attempt:expr) => {
        loop {
            ready!($tcp.$ready($cx))?;
            match $attempt {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        when_ready!(cx, self.0, poll_read_ready, self.0.try_read_buf(buf).map(drop))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        when_ready!(cx, self.0, poll_write_ready, self.0.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        when_ready!(cx, self.0, poll_write_ready, self.0.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(socket2::SockRef::from(&*self.0).shutdown(std::net::Shutdown::Write))
    }
}
