//! The two listeners: the main port for callers, the admin port for operators.

pub(crate) mod config;
mod connection;
mod ending;
mod framing;
mod io;
mod listener;
mod ready_file;

pub(crate) mod admin;

use std::{convert::Infallible, io as std_io, pin::pin, sync::Arc, time::Duration};

use axum::BoxError;
use bytes::Bytes;
pub use config::{AdminConfig, Http1Config, Http2Config, HttpConfig};
use http::{Request, Response};
use hyper::body::Incoming;
pub use listener::BoundAddress;
pub(crate) use listener::{Accepted, Listener};
pub(crate) use ready_file::ReadyFile;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;
use tower_service::Service;

use self::connection::ConnectionServer;
use crate::{
    observe::{Observe, connection::Connection},
    shutdown::{Phase, Shutdown},
    telemetry::metrics::Connections,
};

/// How long the accept loop waits after the process ran out of file descriptors or memory.
///
/// Chosen: long enough not to spin, short enough that callers in the kernel's queue do not notice.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A service of which each connection gets its own copy, told which connection it is.
pub(crate) trait OnConnection {
    fn on(self, connection: Arc<Connection>) -> Self;
}

impl<S> OnConnection for Observe<S> {
    fn on(self, connection: Arc<Connection>) -> Self {
        self.of(connection)
    }
}

/// A listener with what it takes to serve its connections.
pub(crate) struct Server {
    pub(crate) listener: Listener,
    pub(crate) config: HttpConfig,
    pub(crate) shutdown: Shutdown,
    pub(crate) counts: Connections,
    /// Owns the connections and their HTTP/2 streams.
    pub(crate) tasks: TaskTracker,
}

impl Server {
    /// Accepts until the service stops, then returns; the connections go on in `tasks`.
    pub(crate) async fn run<S, B>(self, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + OnConnection
            + Clone
            + Send
            + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes, Error = BoxError> + Send + 'static,
    {
        let connections =
            ConnectionServer::new(&self.config, self.shutdown.clone(), self.tasks.clone(), self.counts.clone());
        let permits = Arc::new(Semaphore::new(self.config.max_connections as usize));
        let mut stopping = pin!(self.shutdown.reached(Phase::Stopping));
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut stopping => break,
                accepted = next(&self.listener, &permits) => accepted,
            };
            self.start(accepted, &connections, &service);
        }
        // What the kernel has accepted already is answered too; then the listener closes and new callers are refused.
        tokio::task::yield_now().await;
        while let Some(accepted) = waiting(&self.listener, &permits).await {
            self.start(accepted, &connections, &service);
        }
    }

    fn start<S, B>(&self, accepted: (Accepted, OwnedSemaphorePermit), connections: &ConnectionServer, service: &S)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + OnConnection
            + Clone
            + Send
            + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes, Error = BoxError> + Send + 'static,
    {
        let (accepted, permit) = accepted;
        let connections = connections.clone();
        let peer = match &accepted {
            Accepted::Tcp(_, peer) => Some(*peer),
            Accepted::Unix(_) => None,
        };
        let connection = Arc::new(Connection::new(peer));
        let service = service.clone().on(connection.clone());
        match accepted {
            Accepted::Tcp(stream, _) => {
                // A socket that is gone already shows itself at the first read.
                let _ = stream.set_nodelay(self.config.tcp_nodelay);
                self.tasks.spawn(async move {
                    connections.serve(stream, connection, service).await;
                    drop(permit);
                });
            }
            Accepted::Unix(stream) => {
                self.tasks.spawn(async move {
                    connections.serve(stream, connection, service).await;
                    drop(permit);
                });
            }
        }
    }
}

/// The next connection, once there is room for it. Never fails: what cannot be accepted now is waited out.
async fn next(listener: &Listener, permits: &Arc<Semaphore>) -> (Accepted, OwnedSemaphorePermit) {
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else {
            // The semaphore is never closed; if it were, there would be no room for ever.
            std::future::pending::<()>().await;
            continue;
        };
        match listener.accept().await {
            Ok(accepted) => return (accepted, permit),
            Err(error) if is_the_callers(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections; is the limit of open files reached (ulimit -n)?");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection that waits in the kernel's queue right now, if there is one and there is room.
async fn waiting(listener: &Listener, permits: &Arc<Semaphore>) -> Option<(Accepted, OwnedSemaphorePermit)> {
    let permit = permits.clone().try_acquire_owned().ok()?;
    let mut accept = pin!(listener.accept());
    let accepted = std::future::poll_fn(|cx| std::task::Poll::Ready(accept.as_mut().poll(cx))).await;
    match accepted {
        std::task::Poll::Ready(Ok(accepted)) => Some((accepted, permit)),
        _ => None,
    }
}

/// Whether the caller was gone before it was accepted, which is no fault of this side.
fn is_the_callers(error: &std_io::Error) -> bool {
    matches!(
        error.kind(),
        std_io::ErrorKind::ConnectionAborted
            | std_io::ErrorKind::ConnectionRefused
            | std_io::ErrorKind::ConnectionReset
    )
}
