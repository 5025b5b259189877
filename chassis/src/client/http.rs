//! The way out: one plain connection pool, or whatever tower stack stands in its place.

use std::{fmt, future::poll_fn, pin::Pin, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioTimer,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tower_service::Service;

use super::{
    body::RequestBody,
    config::PoolConfig,
    fallback::Fallbacks,
    pool::{Tasks, ask_idle},
    propagate::Propagation,
};
use crate::{
    error::{BoxError, Result},
    tls::{self, Alpn, Connector, TlsConfig},
};

/// How many idle connections to one address are kept; what is beyond is closed. Go's `net/http` keeps as many in all.
const MAX_IDLE: usize = 100;
/// How long an idle connection is kept: less than the 60 s after which common load balancers close theirs, and the 75 s of
/// this chassis' own servers and nginx, so that a call seldom meets a connection that is being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// What carries a request out.
pub(super) trait Transport: Send + Sync + fmt::Debug {
    /// Whether its layers write what travels with a call: trace context, baggage, what time is left.
    fn writes_context(&self) -> bool {
        false
    }

    /// What travels with a call, by settings of its own.
    fn propagation(&self) -> Option<Propagation> {
        None
    }

    fn send(
        &self,
        request: Request<RequestBody>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    /// Where fallbacks are counted; nowhere without a destination's name.
    fn fallbacks(&self) -> Option<&Fallbacks> {
        None
    }
}

/// A tower service as a transport. Each call has a clone of its own, which is waited for until it is ready.
pub(super) struct Tower<S>(pub(super) S);

impl<S, B> Transport for Tower<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn send(
        &self,
        request: Request<RequestBody>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>> {
        let mut service = self.0.clone();
        Box::pin(async move {
            poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
            let response = service.call(request).await.map_err(Into::into)?;
            Ok(response.map(Body::new))
        })
    }
}

impl<S> fmt::Debug for Tower<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::any::type_name::<S>())
    }
}

/// A pool of connections to one address, and nothing around it.
pub(super) struct Plain {
    pool: Tower<legacy::Client<Connector, RequestBody>>,
    /// Ends the connections with the last client that uses them.
    _tasks: DropGuard,
}

impl Plain {
    pub(super) fn new(connect_timeout: Duration, http2: bool, tls: &TlsConfig) -> Result<Self> {
        let stopped = CancellationToken::new();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(!tls.enabled);
        tcp.set_connect_timeout(Some(connect_timeout));
        // Requests are written whole: to wait for more only costs time.
        tcp.set_nodelay(true);
        let alpn = if http2 { Alpn::Http2 } else { Alpn::Http1 };
        let config = PoolConfig::default();
        ask_idle(&mut tcp, &config, alpn);
        let connector = tls::connector_for(tcp, tls, alpn)?.within(connect_timeout);
        let pool = legacy::Client::builder(Tasks(stopped.clone()))
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE)
            .http2_only(http2)
            .http2_keep_alive_interval(config.keep_alive_interval.get())
            .http2_keep_alive_timeout(config.keep_alive_timeout.get())
            .build(connector);
        Ok(Self { pool: Tower(pool), _tasks: stopped.drop_guard() })
    }
}

impl Transport for Plain {
    fn send(
        &self,
        request: Request<RequestBody>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>> {
        self.pool.send(request)
    }
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plain")
    }
}
