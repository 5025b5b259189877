//! The connections to one endpoint.
//!
//! Built on `hyper::client::conn`; docs/decisions/0019 says why. A call takes a lease of a connection
//! ([`connections`]), sends its request ([`send`]), and gives the lease back with the end of its answer ([`body`]). A
//! connection is made by a task of its own ([`connect`]). A request that its connection hands back unread is sent on another.

mod body;
mod connect;
mod connections;
mod dial;
mod error;
mod http1;
mod http2;
mod linger;
mod send;
mod socket;
mod wire;

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use http::{
    HeaderValue, Request, Response, Uri,
    uri::{Authority, Scheme},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tower_service::Service;

use self::{connections::Connections, dial::Transport, linger::Linger};
use super::{
    body::RequestBody,
    config::{HttpProtocol, PoolConfig},
    facts::Facts,
};
use crate::{
    clock,
    context::Protocol,
    discovery::Endpoint,
    error::{BoxError, Result},
    tls::{Alpn, TlsConfig},
};

pub(crate) use self::{
    body::PoolBody,
    error::{NoConnection, TooLarge},
};

/// Makes the pools of one destination: what all its endpoints have in common.
#[derive(Debug)]
pub(crate) struct Pools {
    config: PoolConfig,
    scheme: Scheme,
    /// What endpoints are called when it is not by their own hosts.
    name: Option<String>,
    /// For HTTP calls, when they are not HTTP/2.
    http1: Option<Transport>,
    http2: Transport,
}

impl Pools {
    /// Endpoints are asked for `name`, in TLS and in requests, or each for its own host.
    ///
    /// # Errors
    ///
    /// Exit code 78: a certificate or key that cannot be read.
    pub(crate) fn new(
        config: &PoolConfig,
        protocol: HttpProtocol,
        tls: &TlsConfig,
        name: Option<&str>,
    ) -> Result<Arc<Self>> {
        Ok(Arc::new(Self {
            config: config.clone(),
            scheme: if tls.enabled { Scheme::HTTPS } else { Scheme::HTTP },
            name: name.map(str::to_owned),
            http1: match protocol {
                HttpProtocol::Http1 => Some(Transport::new(config, tls, Alpn::Http1)?),
                HttpProtocol::Http2 => None,
            },
            http2: Transport::new(config, tls, Alpn::Http2)?,
        }))
    }

    /// The scheme of all requests.
    pub(crate) fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    fn is_tls(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// How many streams the window of an HTTP/2 connection holds when none of their answers is read.
    fn most_streams(&self) -> usize {
        let streams = self.config.connection_window.0 / self.config.stream_window.0.max(1);
        usize::try_from(streams).unwrap_or(usize::MAX).max(1)
    }

    /// The connections to this endpoint: none yet. Requests come with scheme and authority, as the balancer writes them.
    pub(crate) fn pool(self: &Arc<Self>, endpoint: &Endpoint) -> Pool {
        let address = endpoint.authority().parse::<Authority>().ok();
        let named = self.name.as_ref().and_then(|name| format!("{name}:{}", endpoint.port).parse::<Authority>().ok());
        let uri = |authority: &Authority| {
            let uri = Uri::builder().scheme(self.scheme.clone()).authority(authority.clone());
            uri.path_and_query("/").build().unwrap_or_default()
        };
        let to = address.as_ref().map(uri).unwrap_or_default();
        let asked = named.as_ref().map_or_else(|| to.clone(), uri);
        let host = named.as_ref().or(address.as_ref()).and_then(|authority| host(authority, &self.scheme));
        let stopped = CancellationToken::new();
        Pool(Arc::new(Inner {
            pools: self.clone(),
            named,
            to,
            asked,
            host,
            http1: OnceLock::new(),
            http2: OnceLock::new(),
            linger: Linger::new(Tasks(stopped.clone())),
            tasks: Tasks(stopped.clone()),
            _stop: stopped.drop_guard(),
        }))
    }
}

/// What a `host` header says: the port is left out when it is the scheme's own (RFC 9110, section 7.2).
fn host(authority: &Authority, scheme: &Scheme) -> Option<HeaderValue> {
    let own = if *scheme == Scheme::HTTPS { 443 } else { 80 };
    let text = match authority.port_u16() {
        Some(port) if port == own => authority.host(),
        _ => authority.as_str(),
    };
    HeaderValue::from_str(text).ok()
}

/// The connections to one endpoint, made as calls need them. They end with the last clone, the last call and the last
/// answer that is still read.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Inner>);

struct Inner {
    pools: Arc<Pools>,
    /// What the endpoint is called when it is not by its own host.
    named: Option<Authority>,
    /// Where the endpoint is.
    to: Uri,
    /// What is asked for there, in TLS too.
    asked: Uri,
    /// Written once here; hyper would write it for each call.
    host: Option<HeaderValue>,
    http1: OnceLock<Arc<Connections>>,
    http2: OnceLock<Arc<Connections>>,
    linger: Linger,
    tasks: Tasks,
    _stop: DropGuard,
}

impl Inner {
    /// The connections that a request of this protocol is sent on.
    fn connections(&self, protocol: Protocol) -> &Arc<Connections> {
        let (made, transport, http2) = match &self.pools.http1 {
            Some(transport) if protocol == Protocol::Http => (&self.http1, transport, false),
            _ => (&self.http2, &self.pools.http2, true),
        };
        made.get_or_init(|| {
            let way = transport.way(self.to.clone());
            Connections::new(&self.pools, way, self.asked.clone(), http2, self.tasks.clone())
        })
    }
}

impl Service<Request<RequestBody>> for Pool {
    type Response = Response<PoolBody>;
    type Error = BoxError;
    type Future = PoolFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> PoolFuture {
        let facts = Facts::of(&request);
        let connections = self.0.connections(facts.protocol);
        // Only over HTTP/2 can a call be let go of while its connection lives on.
        let patience = if connections.http2 { linger::Patience::of(&facts) } else { None };
        let sent = send::send(self.clone(), Arc::clone(connections), request, facts, patience.clone());
        PoolFuture { call: Some(Box::pin(sent)), patience, linger: self.0.linger.clone() }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pool").field(&self.0.host).finish()
    }
}

/// The sending of one request, until the head of its answer.
type Sent = Pin<Box<dyn Future<Output = Result<Response<PoolBody>, BoxError>> + Send>>;

/// A call on a connection. It keeps the connections alive.
pub(crate) struct PoolFuture {
    call: Option<Sent>,
    patience: Option<linger::Patience>,
    linger: Linger,
}

impl Future for PoolFuture {
    type Output = Result<Response<PoolBody>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(call) = self.call.as_mut() else { return Poll::Pending };
        let polled = call.as_mut().poll(cx);
        if polled.is_ready() {
            self.call = None;
        }
        polled
    }
}

impl Drop for PoolFuture {
    fn drop(&mut self) {
        if let (Some(call), Some(patience)) = (self.call.take(), &self.patience)
            && patience.lingers(clock::now())
        {
            self.linger.answer(call);
        }
    }
}

impl fmt::Debug for PoolFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolFuture").finish_non_exhaustive()
    }
}

/// Runs the connections of a pool, until the pool is gone.
#[derive(Debug, Clone)]
struct Tasks(CancellationToken);

impl Tasks {
    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, task: F) {
        let stopped = self.0.clone();
        tokio::spawn(async move { stopped.run_until_cancelled(task).await });
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, connection: F) {
        self.spawn(connection);
    }
}

#[cfg(test)]
mod tests;
