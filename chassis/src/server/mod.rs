//! The two listeners: the main port for callers, the admin port for operators.

pub(crate) mod address;
pub(crate) mod config;
mod connection;
mod dependencies;
pub(crate) mod descriptors;
mod ending;
pub(crate) mod handed;
mod io;
mod linger;
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
use tonic::transport::server::Connected;
use tower_service::Service;

pub(crate) use self::descriptors::Spare;
use self::{connection::ConnectionServer, descriptors::Lent, listener::Sealed};
use crate::{
    observe::{Observe, connection::Connection},
    shutdown::{Phase, Shutdown},
    telemetry::metrics::Connections,
};

/// How long the accept loop waits after the process ran out of file descriptors or memory.
///
/// Chosen: long enough not to spin, short enough that callers in the kernel's queue do not notice.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long the sealed listener of a stopping service still accepts what the kernel has begun to connect.
///
/// A caller that is connected when the listener closes is reset, and the request it has sent is lost. New callers are refused
/// meanwhile. Chosen: above any round trip inside a data centre, which is how long a handshake takes.
const HANDSHAKE: Duration = Duration::from_millis(50);

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
    /// Owns the connections, their HTTP/2 streams and what they are upgraded to.
    pub(crate) tasks: TaskTracker,
    /// Descriptors to give up for connections when there are no others.
    pub(crate) spare: Option<Spare>,
}

/// A connection, and what goes back when it ends.
struct Admitted {
    accepted: Accepted,
    _permit: OwnedSemaphorePermit,
    _spare: Option<Lent>,
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
                accepted = self.next(&permits) => accepted,
            };
            self.start(accepted, &connections, &service);
        }
        // It lives on, and with it the callers in its queue: whoever accepts next serves them.
        if self.listener.is_handed_over() {
            return;
        }
        let last = async {
            let closes = tokio::time::Instant::now() + HANDSHAKE;
            let sealed = self.listener.seal();
            while let Some(accepted) = queued(&self.listener, &permits, closes).await {
                self.start(accepted, &connections, &service);
                if sealed == Sealed::Not && tokio::time::Instant::now() > closes {
                    break;
                }
            }
        };
        // The budget of a task would end the loop with callers still in the queue.
        let last = tokio::task::unconstrained(last);
        tokio::select! {
            () = last => {}
            () = self.shutdown.reached(Phase::Cutting) => {}
        }
    }

    /// The next connection, once there is room for it. Never fails: an error of accepting is waited out.
    async fn next(&self, permits: &Arc<Semaphore>) -> Admitted {
        loop {
            let Ok(permit) = permits.clone().acquire_owned().await else {
                // The semaphore is never closed; if it were, there would be no room for ever.
                std::future::pending::<()>().await;
                continue;
            };
            let error = match self.listener.accept().await {
                Ok(accepted) => return Admitted { accepted, _permit: permit, _spare: None },
                Err(error) if is_the_callers(&error) => continue,
                Err(error) => error,
            };
            if descriptors::may_warn() {
                tracing::warn!(
                    %error,
                    "cannot accept connections; is the limit of open files reached (ulimit -n)?"
                );
            }
            if let Some(lent) = self.spare.as_ref().and_then(Spare::lend)
                && let Ok(accepted) = self.listener.accept().await
            {
                return Admitted { accepted, _permit: permit, _spare: Some(lent) };
            }
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }

    fn start<S, B>(&self, admitted: Admitted, connections: &ConnectionServer, service: &S)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + OnConnection
            + Clone
            + Send
            + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes, Error = BoxError> + Send + 'static,
    {
        let connections = connections.clone();
        let Admitted { accepted, _permit, _spare } = admitted;
        let back = (_permit, _spare);
        let connection = Arc::new(match &accepted {
            Accepted::Tcp(stream, peer) => Connection::between(*peer, stream.local_addr().ok()),
            Accepted::Unix(stream) => Connection::over_unix(stream.connect_info()),
        });
        let service = service.clone().on(connection.clone());
        match accepted {
            Accepted::Tcp(stream, _) => {
                // A socket that is gone already shows itself at the first read.
                let _ = stream.set_nodelay(self.config.tcp_nodelay);
                self.tasks.spawn(async move {
                    connections.serve(stream, connection, service).await;
                    drop(back);
                });
            }
            Accepted::Unix(stream) => {
                self.tasks.spawn(async move {
                    connections.serve(stream, connection, service).await;
                    drop(back);
                });
            }
        }
    }
}

/// A connection that the kernel has made already, or is making, as soon as there is room for it; `None` when there is none
/// by the time the listener closes.
async fn queued(listener: &Listener, permits: &Arc<Semaphore>, closes: tokio::time::Instant) -> Option<Admitted> {
    let permit = permits.clone().acquire_owned().await.ok()?;
    loop {
        match tokio::time::timeout_at(closes, listener.accept()).await {
            Ok(Ok(accepted)) => return Some(Admitted { accepted, _permit: permit, _spare: None }),
            Ok(Err(error)) if is_the_callers(&error) => {}
            Ok(Err(_)) | Err(_) => return None,
        }
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
