//! A connection from the first SYN to the first request.

use std::{
    io,
    sync::{Arc, Mutex, Weak},
};

use http::{Extensions, Uri};
use hyper::client::conn::{http1, http2};
use hyper_util::{
    client::legacy::connect::{Connection as _, HttpInfo},
    rt::{TokioIo, TokioTimer},
};
use tower_service::Service;

use super::{
    Pools,
    connections::Connections,
    dial::Way,
    error::{NoConnection, WrongProtocol},
    http1::{self as own1, Idle},
    http2::{self as own2, Shared},
    socket::Line,
    wire::{Speech, Wire},
};
use crate::{client::body::RequestBody, error::BoxError};

type Stream = <Way as Service<Uri>>::Response;

/// What hyper reads and writes.
pub(super) type Io = TokioIo<Wire<TokioIo<Stream>>>;

/// A connection that has just been made.
pub(super) enum Made {
    Http1(Idle),
    Http2(Arc<Shared>),
}

/// Makes a connection. The pool is held only once there is one: it may end while that is waited for.
///
/// # Errors
///
/// There is none within `connect_timeout`, or not of the protocol.
pub(super) async fn connect(
    connections: Weak<Connections>,
    connecting: <Way as Service<Uri>>::Future,
) -> Result<Made, NoConnection> {
    let stream = connecting.await.map_err(NoConnection::new)?;
    let Some(pool) = connections.upgrade() else { return Err(NoConnection::new("the pool has ended".into())) };
    let connected = stream.connected();
    let mut extras = Extensions::new();
    connected.get_extras(&mut extras);
    let (info, line) = (extras.remove::<HttpInfo>(), extras.remove::<Line>());
    let handshake = async {
        match pool.http2 {
            false => http1(&pool, stream, info, line).await,
            true => {
                if pool.pools.is_tls() && !connected.is_negotiated_h2() {
                    return Err(no_alpn(&pool.uri));
                }
                http2(&pool, stream, info).await
            }
        }
    };
    let limit = pool.pools.config.connect_timeout;
    match tokio::time::timeout(limit.get(), handshake).await {
        Ok(made) => made.map_err(NoConnection::new),
        Err(_) => {
            let message = format!("connected, and no SETTINGS frame of HTTP/2 within {limit}");
            Err(NoConnection::new(io::Error::new(io::ErrorKind::TimedOut, message).into()))
        }
    }
}

fn no_alpn(uri: &Uri) -> BoxError {
    let other_end = uri.authority().map(ToString::to_string).unwrap_or_default();
    format!(
        "{other_end} did not choose HTTP/2 in the TLS handshake (ALPN h2), so it is not spoken (RFC 9113, section 3.2); set the \
         client's protocol = \"http1\", or for gRPC a port that offers h2"
    )
    .into()
}

async fn http1(
    pool: &Arc<Connections>,
    stream: Stream,
    info: Option<HttpInfo>,
    line: Option<Line>,
) -> Result<Made, BoxError> {
    let (io, heard) = Wire::new(TokioIo::new(stream));
    let Pools { config, .. } = &*pool.pools;
    let (sender, connection) = http1::Builder::new()
        .max_headers(config.max_headers as usize)
        .max_header_size(config.max_head_size.bytes())
        .max_buf_size(config.max_head_size.bytes())
        .handshake::<_, RequestBody>(TokioIo::new(io))
        .await?;
    let back = Arc::new(Mutex::new(None));
    let connection = connection.with_upgrades();
    let connections = Arc::downgrade(pool);
    let idle = Idle::new(sender, line, info, heard, &back);
    pool.tasks.spawn(own1::Running { connection, back, connections });
    Ok(Made::Http1(idle))
}

async fn http2(pool: &Arc<Connections>, stream: Stream, info: Option<HttpInfo>) -> Result<Made, BoxError> {
    let (io, heard) = Wire::new(TokioIo::new(stream));
    let config = &pool.pools.config;
    let (sender, connection) = http2::Builder::new(pool.tasks.clone())
        .timer(TokioTimer::new())
        .initial_stream_window_size(bytes(config.stream_window.0))
        .initial_connection_window_size(bytes(config.connection_window.0))
        .max_header_list_size(bytes(config.max_head_size.0))
        // A connection whose packets are lost without a word would keep all calls to itself, until TCP gives up.
        .keep_alive_interval(config.keep_alive_interval.get())
        .keep_alive_timeout(config.keep_alive_timeout.get())
        .handshake::<_, RequestBody>(TokioIo::new(io))
        .await?;
    // The other end's first frame (RFC 9113, section 3.4): it says how many streams it takes, and that it speaks HTTP/2 at all.
    match heard.wait().await {
        Speech::Http2 { streams } => {
            let own_most = pool.pools.most_streams();
            let theirs = streams.map_or(usize::MAX, |streams| usize::try_from(streams).unwrap_or(usize::MAX));
            let shared = Shared::new(sender, info, theirs.min(own_most));
            let (weak, connections) = (Arc::downgrade(&shared), Arc::downgrade(pool));
            pool.tasks.spawn(own2::Running {
                connection: Some(connection),
                shared: weak,
                connections,
                own_most,
                theirs,
            });
            Ok(Made::Http2(shared))
        }
        speech => Err(pool.wrong_protocol(speech).into()),
    }
}

/// A number of bytes as HTTP/2 has it; more than it can say is the most.
fn bytes(size: u64) -> u32 {
    /// The largest window (RFC 9113, section 6.9.1).
    const MOST: u32 = (1 << 31) - 1;
    u32::try_from(size).unwrap_or(MOST).min(MOST)
}

impl Connections {
    /// The other end speaks something else.
    pub(super) fn wrong_protocol(&self, speech: Speech) -> WrongProtocol {
        let other_end = self.uri.authority().map(ToString::to_string).unwrap_or_default();
        WrongProtocol { other_end, speech, http2: self.http2, tls: self.pools.is_tls() }
    }
}
