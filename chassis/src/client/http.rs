//! The way out: one plain connection pool, or whatever tower stack stands in its place.

use std::{fmt, future::poll_fn, pin::Pin, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use tower_service::Service;

use super::{
    body::RequestBody,
    config::{HttpProtocol, PoolConfig},
    fallback::Fallbacks,
    pool::{Pool, Pools},
    propagate::Propagation,
};
use crate::{
    config,
    discovery::Endpoint,
    error::{BoxError, Result},
    tls::TlsConfig,
};

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
pub(super) struct Plain(Tower<Pool>);

impl Plain {
    pub(super) fn new(endpoint: &Endpoint, connect_timeout: Duration, http2: bool, tls: &TlsConfig) -> Result<Self> {
        let protocol = if http2 { HttpProtocol::Http2 } else { HttpProtocol::Http1 };
        let config = PoolConfig { connect_timeout: config::Duration(connect_timeout), ..PoolConfig::default() };
        Ok(Self(Tower(Pools::new(&config, protocol, tls, None)?.pool(endpoint))))
    }
}

impl Transport for Plain {
    fn send(
        &self,
        request: Request<RequestBody>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>> {
        self.0.send(request)
    }
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plain")
    }
}
