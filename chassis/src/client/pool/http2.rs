//! A connection of HTTP/2, which many calls share.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http2},
};
use hyper_util::client::legacy::connect::HttpInfo;

use super::{Tasks, connect::Io, connections::Connections};
use crate::client::body::RequestBody;

/// An answer, or an error that may hand the request back.
type Answered = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

/// A connection that many calls share. It ends with the last of them once the pool has let go of it.
pub(super) struct Shared {
    /// None when the connection has ended. The last sender must go then: a request that it put into hyper's channel while the
    /// other end was being dropped lies there until no sender is left, and its call would wait for ever.
    sender: Mutex<Option<http2::SendRequest<RequestBody>>>,
    pub(super) info: Option<HttpInfo>,
    /// How many streams it takes at once.
    most: AtomicUsize,
    used: AtomicBool,
}

impl Shared {
    pub(super) fn new(sender: http2::SendRequest<RequestBody>, info: Option<HttpInfo>, most: usize) -> Arc<Self> {
        let sender = Mutex::new(Some(sender));
        Arc::new(Self { sender, info, most: AtomicUsize::new(most), used: AtomicBool::new(false) })
    }

    /// Returns whether it takes no new streams: it has ended, or the other end has sent a GOAWAY (RFC 9113, section 6.8).
    pub(super) fn is_closed(&self) -> bool {
        self.sender().as_ref().is_none_or(http2::SendRequest::is_closed)
    }

    fn sender(&self) -> MutexGuard<'_, Option<http2::SendRequest<RequestBody>>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many streams it takes at once: as many as the other end allows, and as the window of the connection can hold
    /// without one stopping another.
    pub(super) fn most(&self) -> usize {
        self.most.load(Relaxed)
    }

    /// Returns whether it was used before.
    pub(super) fn used(&self) -> bool {
        self.used.swap(true, Relaxed)
    }

    /// Sends a request.
    ///
    /// # Errors
    ///
    /// The connection has ended: the request comes back.
    pub(super) fn send(
        &self,
        request: Request<RequestBody>,
    ) -> Result<impl Future<Output = Answered> + use<>, Box<Request<RequestBody>>> {
        match self.sender().as_mut() {
            Some(sender) => Ok(sender.try_send_request(request)),
            None => Err(Box::new(request)),
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("info", &self.info).field("most", &self.most).finish_non_exhaustive()
    }
}

/// Runs a connection, and follows how many streams the other end allows.
pub(super) struct Running {
    /// None when it has ended.
    pub(super) connection: Option<http2::Connection<Io, RequestBody, Tasks>>,
    pub(super) shared: Weak<Shared>,
    pub(super) connections: Weak<Connections>,
    /// As many as the window of the connection can hold.
    pub(super) own_most: usize,
    /// What the other end said last.
    pub(super) theirs: usize,
}

impl Future for Running {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let Some(connection) = this.connection.as_mut() else { return Poll::Ready(()) };
        let ended = Pin::new(&mut *connection).poll(cx).is_ready();
        let theirs = connection.current_max_send_streams();
        if ended {
            // Dropped, it takes no more requests, and those that it has not looked at go back.
            this.connection = None;
        }
        if (theirs != this.theirs || ended)
            && let Some(shared) = this.shared.upgrade()
        {
            this.theirs = theirs;
            if ended {
                *shared.sender() = None;
            }
            shared.most.store(theirs.min(this.own_most), Relaxed);
            drop(shared);
            if let Some(connections) = this.connections.upgrade() {
                connections.changed();
            }
        }
        if ended { Poll::Ready(()) } else { Poll::Pending }
    }
}
