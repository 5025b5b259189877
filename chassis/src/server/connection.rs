//! One connection from accept to close: learn the protocol, serve, watch over it, end it when the service stops.
//!
//! hyper and axum alone hold a silent connection for ever. Here every wait has an end: for the first bytes and for the rest
//! of a request head (`header_read_timeout`), for the next request (`idle_timeout`), for a caller that reads
//! (`write_timeout`). The watch costs a request nothing but a few relaxed stores: it looks at the connection's life signs on
//! a slow tick and sets a precise timer only when half a head lies there.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use axum::BoxError;
use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    rt::Executor,
    server::conn::{http1, http2},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot::{self, error::TryRecvError},
    task::coop::unconstrained,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::task::TaskTracker;
use tower_service::Service;

use super::{
    config::HttpConfig,
    ending::Ending,
    io::{Io, Version, read_opening},
};
use crate::{
    observe::connection::Connection,
    shutdown::{Phase, Shutdown},
    telemetry::metrics::Connections,
};

/// How long an HTTP/1.1 connection that is idle when the service stops is still listened to.
///
/// A request may be on its way just then. Chosen: above any round trip inside a data centre, below what a human waits for.
const LINGER: Duration = Duration::from_millis(250);

/// Everything a connection needs from its server.
#[derive(Clone)]
pub(crate) struct ConnectionServer {
    http1: http1::Builder,
    http2: http2::Builder<Tracked>,
    limits: Limits,
    shutdown: Shutdown,
    counts: Connections,
}

#[derive(Clone, Copy)]
struct Limits {
    header_read: Duration,
    idle: Duration,
    write: Duration,
}

/// Runs the streams of HTTP/2 connections as tasks that the server waits for when it stops.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F> Executor<F> for Tracked
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

impl ConnectionServer {
    pub(crate) fn new(config: &HttpConfig, shutdown: Shutdown, tasks: TaskTracker, counts: Connections) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            // The watch below does this without resetting a timer for each request.
            .header_read_timeout(None)
            .max_headers(config.http1.max_headers as usize)
            .max_buf_size(config.http1.max_head_size.bytes());
        let mut http2 = http2::Builder::new(Tracked(tasks));
        let h2 = &config.http2;
        let interval = h2.keep_alive_interval.get();
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(h2.max_concurrent_streams)
            .max_header_list_size(u32::try_from(h2.max_header_list_size.0).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(h2.max_pending_accept_reset_streams as usize)
            .max_local_error_reset_streams(h2.max_local_error_reset_streams as usize)
            .max_send_buf_size(h2.max_send_buffer.bytes())
            .keep_alive_interval((!interval.is_zero()).then_some(interval))
            .keep_alive_timeout(h2.keep_alive_timeout.get());
        let limits = Limits {
            header_read: config.header_read_timeout.get(),
            idle: config.idle_timeout.get(),
            write: config.write_timeout.get(),
        };
        Self { http1, http2, limits, shutdown, counts }
    }

    /// Serves one connection to its end.
    pub(crate) async fn serve<T, S, B>(&self, mut stream: T, connection: Arc<Connection>, service: S)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes, Error = BoxError> + Send + 'static,
    {
        let _open = self.counts.accept();
        let opening = tokio::select! {
            opening = timeout(self.limits.header_read, read_opening(&mut stream)) => opening,
            () = self.stopped_and_lingered() => return self.ended(Ending::Idle),
        };
        let opening = match opening {
            Ok(Ok(Some(opening))) => opening,
            Ok(Ok(None)) => return self.ended(Ending::Closed),
            Ok(Err(_)) => return self.ended(Ending::Broken),
            Err(_) => return self.ended(Ending::HeaderTimeout),
        };
        let version = opening.version;
        let (alive, gone) = oneshot::channel();
        let io = TokioIo::new(Io::new(stream, opening, connection.clone(), self.shutdown.clone(), alive));
        let service = hyper::service::service_fn(move |request| service.clone().call(request));
        let ending = match version {
            Version::Http1 => {
                let served = pin!(self.http1.serve_connection(io, service).with_upgrades());
                watch_over(self.limits, &self.shutdown, served, http1_graceful, version, &connection).await
            }
            Version::Http2 => {
                let served = pin!(self.http2.serve_connection(io, service));
                let graceful = |served: Pin<&mut http2::Connection<_, _, _>>| served.graceful_shutdown();
                watch_over(self.limits, &self.shutdown, served, graceful, version, &connection).await
            }
        };
        // Whatever was served is dropped by now, and the socket with it, unless a handler has it.
        self.ended(self.outlived(gone).await.unwrap_or(ending));
    }

    /// Waits for the end of the stream that a handler has upgraded the connection to; `None` when it has not.
    async fn outlived(&self, mut gone: oneshot::Receiver<Infallible>) -> Option<Ending> {
        if !matches!(gone.try_recv(), Err(TryRecvError::Empty)) {
            return None;
        }
        Some(tokio::select! {
            _ = gone => if self.shutdown.phase() >= Phase::Stopping { Ending::Drained } else { Ending::Closed },
            () = self.shutdown.reached(Phase::Cutting) => Ending::Cut,
        })
    }

    fn ended(&self, ending: Ending) {
        self.counts.ended(ending.as_str());
        if ending.is_early() {
            tracing::debug!(ending = ending.as_str(), "a connection ended before its time");
        }
    }

    async fn stopped_and_lingered(&self) {
        self.shutdown.reached(Phase::Stopping).await;
        tokio::time::sleep(LINGER).await;
    }
}

/// Drives the connection and watches over it.
async fn watch_over<C>(
    limits: Limits,
    shutdown: &Shutdown,
    mut served: Pin<&mut C>,
    graceful: impl Fn(Pin<&mut C>),
    version: Version,
    connection: &Connection,
) -> Ending
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut watch = Watch::new(limits, version, Instant::now());
    let mut timer = pin!(sleep_until(watch.next));
    let mut stopping = pin!(shutdown.reached(Phase::Stopping));
    let mut cutting = pin!(shutdown.reached(Phase::Cutting));
    // The three waits are polled once, to leave their waker, and again only when they have something to say: polling
    // them at every wake-up would take a shared lock for each request. Outside of tokio's budget, because a wait that
    // is put off for lack of it leaves no waker where it counts.
    let mut armed = false;
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(result) = served.as_mut().poll(cx) {
                return Poll::Ready(match result {
                    Ok(()) => watch.ending.unwrap_or(Ending::Closed),
                    Err(error) => watch.ending.unwrap_or_else(|| Ending::of(&error)),
                });
            }
            if !armed {
                armed = true;
                let _ = (stopping.as_mut().poll(cx), cutting.as_mut().poll(cx));
                let _ = pin!(unconstrained(timer.as_mut())).poll(cx);
            }
            // Read behind the wakers: a change before them is seen here, one after them wakes.
            let phase = shutdown.phase();
            if phase == Phase::Cutting {
                return Poll::Ready(Ending::Cut);
            }
            let now_due = timer.is_elapsed();
            if !now_due && !watch.has_news(connection, phase) {
                return Poll::Pending;
            }
            let mut poll_again = false;
            match watch.look(connection, phase, Instant::now()) {
                Verdict::Wait => {}
                Verdict::EndGracefully => {
                    if version == Version::Http1 {
                        connection.end_idle();
                    }
                    graceful(served.as_mut());
                    poll_again = true;
                }
                Verdict::Cut(ending) => return Poll::Ready(ending),
            }
            timer.as_mut().reset(watch.next);
            if pin!(unconstrained(timer.as_mut())).poll(cx).is_pending() && !poll_again {
                return Poll::Pending;
            }
        }
    })
    .await
}

fn http1_graceful<I, S>(served: Pin<&mut http1::UpgradeableConnection<I, S>>)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: hyper::service::HttpService<Incoming>,
    S::Error: Into<BoxError>,
    S::ResBody: 'static,
    <S::ResBody as http_body::Body>::Error: Into<BoxError>,
{
    served.graceful_shutdown();
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Wait,
    EndGracefully,
    Cut(Ending),
}

/// What the watch over one connection remembers. Pure: the time and the life signs are arguments.
struct Watch {
    limits: Limits,
    version: Version,
    /// When to look again.
    next: Instant,
    tick: Duration,
    /// Since when half a request head, or nothing at all on a new connection, has been there.
    head_since: Option<(u64, Instant)>,
    /// When the connection was last seen with a request, and how many there had been.
    quiet_since: Instant,
    requests_seen: u64,
    blocked: Option<(u64, Instant)>,
    held: Option<(u64, Instant)>,
    /// Since when the service stops.
    stopping_since: Option<Instant>,
    graceful: bool,
    ending: Option<Ending>,
}

/// The watch looks at least this often within the idle time-out, so that it is not kept by more than a quarter.
const IDLE_TICKS: u32 = 4;

impl Watch {
    fn new(limits: Limits, version: Version, now: Instant) -> Self {
        let tick = (limits.idle / IDLE_TICKS).min(limits.write / 2).max(Duration::from_millis(10));
        Self {
            limits,
            version,
            next: now + tick.min(limits.header_read),
            tick,
            head_since: Some((0, now)),
            quiet_since: now,
            requests_seen: 0,
            blocked: None,
            held: None,
            stopping_since: None,
            graceful: false,
            ending: None,
        }
    }

    /// Whether something changed that the next tick is too late for.
    fn has_news(&self, connection: &Connection, phase: Phase) -> bool {
        (phase >= Phase::Stopping && self.stopping_since.is_none())
            || (self.version == Version::Http1 && connection.has_partial_head() && !self.has_seen_head(connection))
    }

    /// Judges the connection now and says in `next` when to look again.
    fn look(&mut self, connection: &Connection, phase: Phase, now: Instant) -> Verdict {
        self.next = now + self.tick;
        if phase >= Phase::Stopping {
            let since = *self.stopping_since.get_or_insert(now);
            if !self.graceful && !connection.is_closing() {
                // HTTP/2 tells the caller which streams count; HTTP/1.1 cannot, so an idle connection lingers first.
                if self.version == Version::Http2 || now >= since + LINGER {
                    self.graceful = true;
                    self.ending = Some(Ending::Drained);
                    return Verdict::EndGracefully;
                }
                self.next = since + LINGER;
            }
        }
        // The close in stages has bounds of its own.
        if connection.is_closing() {
            return Verdict::Wait;
        }
        self.head(connection, now)
            .or_else(|| self.write(connection, now))
            .or_else(|| self.idle(connection, now))
            .map_or(Verdict::Wait, |verdict| {
                if verdict == Verdict::EndGracefully {
                    self.graceful = true;
                    self.ending = Some(Ending::Idle);
                }
                verdict
            })
    }

    /// Whether the head that is coming in was there at an earlier look.
    fn has_seen_head(&self, connection: &Connection) -> bool {
        self.head_since.is_some_and(|(requests, _)| requests == connection.requests())
    }

    /// Half a head must become a whole one in time. HTTP/2 has its preface by now, and control frames are not heads.
    fn head(&mut self, connection: &Connection, now: Instant) -> Option<Verdict> {
        let no_request_yet = connection.requests() == 0;
        if self.version == Version::Http2 || !(no_request_yet || connection.has_partial_head()) {
            self.head_since = None;
            return None;
        }
        // Each head has its own time: one seen at an earlier look may have been another's.
        if !self.has_seen_head(connection) {
            self.head_since = Some((connection.requests(), now));
        }
        let due = self.head_since.map_or(now, |(_, since)| since) + self.limits.header_read;
        if now >= due {
            return Some(Verdict::Cut(Ending::HeaderTimeout));
        }
        self.next = self.next.min(due);
        None
    }

    /// A caller that does not read what it asked for is let go: one that lets the socket fill up, and one that opens no
    /// HTTP/2 window for any of its streams.
    fn write(&mut self, connection: &Connection, now: Instant) -> Option<Verdict> {
        let due = [(&mut self.blocked, connection.blocked_at()), (&mut self.held, connection.held_at())]
            .into_iter()
            .filter_map(|(seen, progress)| Some(stands_since(seen, progress, now)? + self.limits.write))
            .min()?;
        if now >= due {
            return Some(Verdict::Cut(Ending::WriteTimeout));
        }
        self.next = self.next.min(due);
        None
    }

    /// A connection without requests ends after the idle time-out, give or take a tick. One that does not go when it was told
    /// to, because it does not read the rest or answer the GOAWAY, is cut after the write time-out.
    fn idle(&mut self, connection: &Connection, now: Instant) -> Option<Verdict> {
        let requests = connection.requests();
        // The end of an answer that the caller is still reading is not idleness either.
        if connection.in_flight() > 0 || requests != self.requests_seen || connection.blocked_at().is_some() {
            self.requests_seen = requests;
            self.quiet_since = now;
            return None;
        }
        let due = self.quiet_since + self.limits.idle + if self.graceful { self.limits.write } else { Duration::ZERO };
        if now < due {
            self.next = self.next.min(due);
            return None;
        }
        Some(if self.graceful { Verdict::Cut(self.ending.unwrap_or(Ending::Idle)) } else { Verdict::EndGracefully })
    }
}

/// Since when this progress has been what it is; `None` when nothing waits to be read.
fn stands_since(seen: &mut Option<(u64, Instant)>, progress: Option<u64>, now: Instant) -> Option<Instant> {
    *seen = progress.map(|progress| match *seen {
        Some((then, since)) if then == progress => (then, since),
        _ => (progress, now),
    });
    seen.map(|(_, since)| since)
}

#[cfg(test)]
mod tests;
