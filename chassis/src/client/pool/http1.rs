//! A connection of HTTP/1.1: one request at a time.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1},
};
use hyper_util::client::legacy::connect::HttpInfo;

use super::{connections::Connections, socket::Line, wire::Heard};
use crate::client::body::RequestBody;

/// A connection that has nothing to do. Dropped, it ends.
pub(super) struct Idle {
    sender: http1::SendRequest<RequestBody>,
    line: Option<Line>,
    pub(super) info: Option<HttpInfo>,
    pub(super) heard: Arc<Heard>,
    back: Weak<Mutex<Option<Idle>>>,
}

impl Idle {
    pub(super) fn new(
        sender: http1::SendRequest<RequestBody>,
        line: Option<Line>,
        info: Option<HttpInfo>,
        heard: Arc<Heard>,
        back: &Arc<Mutex<Option<Self>>>,
    ) -> Self {
        let back = Arc::downgrade(back);
        Self { sender, line, info, heard, back }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Returns whether a request may be sent on it: it is open, and nothing has come that no request asked for. An answer to
    /// no request would be taken for the answer to the next one (RFC 9112, section 9.2).
    pub(super) fn is_usable(&self) -> bool {
        self.sender.is_ready() && self.line.as_ref().is_none_or(Line::is_quiet)
    }

    /// Sends a request. The connection is idle again when all of the answer is there.
    pub(super) fn send(
        mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> + use<> {
        let sent = self.sender.try_send_request(request);
        // Gone, the connection has ended, and the request comes back.
        if let Some(back) = self.back.upgrade() {
            *lock(&back) = Some(self);
        }
        sent
    }
}

fn lock(back: &Mutex<Option<Idle>>) -> MutexGuard<'_, Option<Idle>> {
    back.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idle").field("info", &self.info).finish_non_exhaustive()
    }
}

/// Runs a connection, and gives it back to the pool whenever it is idle.
pub(super) struct Running<C> {
    pub(super) connection: C,
    pub(super) back: Arc<Mutex<Option<Idle>>>,
    pub(super) connections: Weak<Connections>,
}

impl<C> Future for Running<C>
where
    C: Future<Output = hyper::Result<()>> + Unpin,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        // An error is also its call's.
        if Pin::new(&mut this.connection).poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut used = lock(&this.back);
        let ready = used.as_mut().map(|idle| idle.sender.poll_ready(cx));
        let idle = match ready {
            // The connection has read all of the answer, and found nothing behind it.
            Some(Poll::Ready(Ok(()))) => used.take(),
            _ => None,
        };
        drop(used);
        if let Some(idle) = idle
            && let Some(connections) = this.connections.upgrade()
        {
            connections.idle(idle);
        }
        Poll::Pending
    }
}
