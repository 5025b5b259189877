//! The connections to one endpoint.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, Uri, Version, header,
    uri::{Authority, Scheme},
};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{
        self,
        connect::{HttpConnector, dns::GaiResolver},
    },
    rt::TokioTimer,
};
use pin_project_lite::pin_project;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower_service::Service;

use super::{
    body::RequestBody,
    config::{HttpProtocol, PoolConfig},
    deadline::announce_left,
    error::NotSent,
    facts::Facts,
    observe::{Phase, Timed},
};
use crate::{
    context::Protocol,
    discovery::Endpoint,
    error::{BoxError, Error, Result},
    tls::{self, Alpn, Connector, TlsConfig},
};

/// Every look-up and every connection is an event of the attempt that asked for it.
type Tcp = Timed<HttpConnector<Timed<GaiResolver>>>;
type Secured = Timed<Connector<Dial>>;
type Connections = legacy::Client<Way, RequestBody>;

/// With or without TLS; only where there is TLS it has a time.
#[derive(Debug, Clone)]
enum Way {
    Plain(Connector<Dial>),
    Tls(Secured),
}

/// Goes to one endpoint, whatever name it is called by.
#[derive(Debug, Clone)]
struct Dial {
    tcp: Tcp,
    to: Option<Uri>,
}

/// How connections for a protocol are made.
#[derive(Debug)]
struct Transport {
    tcp: Tcp,
    connector: Connector<()>,
}

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
        let transport = |alpn| {
            let mut tcp = HttpConnector::new_with_resolver(Timed::new(Phase::Dns, GaiResolver::new()));
            tcp.enforce_http(!tls.enabled);
            tcp.set_connect_timeout(Some(config.connect_timeout.get()));
            // Requests are written whole: to wait for more only costs time.
            tcp.set_nodelay(true);
            ask_idle(&mut tcp, config, alpn);
            let connector = tls::connector_for((), tls, alpn)?.within(config.connect_timeout.get());
            Ok::<_, Error>(Transport { tcp: Timed::new(Phase::Connect, tcp), connector })
        };
        Ok(Arc::new(Self {
            config: config.clone(),
            scheme: if tls.enabled { Scheme::HTTPS } else { Scheme::HTTP },
            name: name.map(str::to_owned),
            http1: match protocol {
                HttpProtocol::Http1 => Some(transport(Alpn::Http1)?),
                HttpProtocol::Http2 => None,
            },
            http2: transport(Alpn::Http2)?,
        }))
    }

    /// The scheme of all requests.
    pub(crate) fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// The connections to this endpoint: none yet. Requests come with scheme and authority, as the balancer writes them.
    pub(crate) fn pool(self: &Arc<Self>, endpoint: &Endpoint) -> Pool {
        let address = endpoint.authority().parse::<Authority>().ok();
        let named = self.name.as_ref().and_then(|name| format!("{name}:{}", endpoint.port).parse::<Authority>().ok());
        let uri = |authority: Authority| {
            Uri::builder().scheme(self.scheme.clone()).authority(authority).path_and_query("/").build().ok()
        };
        let to = named.as_ref().and(address.clone()).and_then(uri);
        let host = named.as_ref().or(address.as_ref()).and_then(|authority| host(authority, &self.scheme));
        let stopped = CancellationToken::new();
        Pool(Arc::new(Inner {
            pools: self.clone(),
            named,
            to,
            host,
            http1: OnceLock::new(),
            http2: OnceLock::new(),
            stopped: stopped.clone(),
            _tasks: stopped.drop_guard(),
        }))
    }

    fn way(&self, transport: &Transport, to: Option<&Uri>) -> Way {
        let connector = transport.connector.over(Dial { tcp: transport.tcp.clone(), to: to.cloned() });
        match self.scheme == Scheme::HTTPS {
            true => Way::Tls(Timed::new(Phase::Tls, connector)),
            false => Way::Plain(connector),
        }
    }
}

impl Service<Uri> for Dial {
    type Response = <Tcp as Service<Uri>>::Response;
    type Error = <Tcp as Service<Uri>>::Error;
    type Future = <Tcp as Service<Uri>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        self.tcp.call(self.to.clone().unwrap_or(uri))
    }
}

impl Service<Uri> for Way {
    type Response = <Connector<Dial> as Service<Uri>>::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Self::Plain(connector) => connector.poll_ready(cx),
            Self::Tls(connector) => connector.poll_ready(cx),
        }
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        match self {
            Self::Plain(connector) => connector.call(uri),
            Self::Tls(connector) => Box::pin(connector.call(uri)),
        }
    }
}

/// Makes TCP ask over idle connections whether the other end is still there.
pub(super) fn ask_idle<R>(tcp: &mut HttpConnector<R>, config: &PoolConfig, alpn: Alpn) {
    tcp.set_keepalive(Some(config.keep_alive_interval.get()));
    tcp.set_keepalive_interval(Some(config.keep_alive_interval.get()));
    // Not for HTTP/1.1: a body that the other end takes its time for is its own call's affair.
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    if alpn == Alpn::Http2 {
        tcp.set_tcp_user_timeout(Some(config.keep_alive_timeout.get()));
    }
    #[cfg(not(any(target_os = "android", target_os = "fuchsia", target_os = "linux")))]
    let _ = alpn;
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
    /// What the endpoint is called when it is not by its own host, and then where it is.
    named: Option<Authority>,
    to: Option<Uri>,
    /// Written once here; hyper would write it for each call.
    host: Option<HeaderValue>,
    http1: OnceLock<Connections>,
    http2: OnceLock<Connections>,
    stopped: CancellationToken,
    _tasks: DropGuard,
}

impl Inner {
    fn connections(&self, transport: &Transport, http2: bool) -> Connections {
        legacy::Client::builder(Tasks(self.stopped.clone()))
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(self.pools.config.idle_timeout.get())
            .pool_max_idle_per_host(self.pools.config.max_idle as usize)
            .http2_only(http2)
            // A connection whose packets are lost without a word would keep all calls to itself, until TCP gives up.
            .http2_keep_alive_interval(self.pools.config.keep_alive_interval.get())
            .http2_keep_alive_timeout(self.pools.config.keep_alive_timeout.get())
            .build(self.pools.way(transport, self.to.as_ref()))
    }

    /// # Errors
    ///
    /// No time is left.
    fn send(&self, mut request: Request<RequestBody>) -> Result<legacy::ResponseFuture, NotSent> {
        let facts = Facts::of(&request);
        let protocol = facts.protocol;
        // The last moment: what earlier attempts and waits took is gone.
        announce_left(request.headers_mut(), &facts)?;
        if let Some(named) = &self.named {
            let mut parts = std::mem::take(request.uri_mut()).into_parts();
            parts.authority = Some(named.clone());
            // As whole as it was.
            *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        }
        let grpc = protocol != Protocol::Http;
        Ok(match &self.pools.http1 {
            Some(transport) if !grpc => {
                *request.version_mut() = Version::HTTP_11;
                if let Some(host) = &self.host {
                    request.headers_mut().entry(header::HOST).or_insert_with(|| host.clone());
                }
                self.http1.get_or_init(|| self.connections(transport, false)).request(request)
            }
            _ => {
                *request.version_mut() = Version::HTTP_2;
                self.http2.get_or_init(|| self.connections(&self.pools.http2, true)).request(request)
            }
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
        match self.0.send(request) {
            Ok(sent) => PoolFuture { sent: Some(sent), not_sent: None, pool: Some(self.clone()) },
            Err(not_sent) => PoolFuture { sent: None, not_sent: Some(not_sent), pool: None },
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pool").field(&self.0.host).finish()
    }
}

pin_project! {
    /// A call on a connection. It keeps the connections alive.
    #[derive(Debug)]
    pub(crate) struct PoolFuture {
        #[pin]
        sent: Option<legacy::ResponseFuture>,
        not_sent: Option<NotSent>,
        pool: Option<Pool>,
    }
}

impl Future for PoolFuture {
    type Output = Result<Response<PoolBody>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(sent) = this.sent.as_pin_mut() else {
            return this.not_sent.take().map_or(Poll::Pending, |not_sent| Poll::Ready(Err(not_sent.into())));
        };
        sent.poll(cx).map(|answered| match answered {
            Ok(response) => Ok(response.map(|body| PoolBody { body, pool: this.pool.take() })),
            Err(error) => Err(error.into()),
        })
    }
}

/// The body of an answer. It keeps the connections alive.
#[derive(Debug)]
pub(crate) struct PoolBody {
    body: Incoming,
    pool: Option<Pool>,
}

impl Body for PoolBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(None | Some(Err(_))) = &frame {
            self.pool = None;
        }
        frame.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Runs the connections of a pool, until the pool is gone.
#[derive(Clone)]
pub(super) struct Tasks(pub(super) CancellationToken);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, connection: F) {
        let stopped = self.0.clone();
        tokio::spawn(async move { stopped.run_until_cancelled(connection).await });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::{BodyExt as _, Full};
    use hyper::{server::conn::http2, service::service_fn};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        sync::watch,
        task::JoinSet,
    };

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// A server of HTTP/2 that answers with what it was called.
    async fn server() -> (std::net::SocketAddr, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let answer = service_fn(|request: Request<Incoming>| async move {
                    let called = request.uri().authority().map(ToString::to_string).unwrap_or_default();
                    Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from(called))))
                });
                let connection =
                    http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer);
                connections.spawn(async move { drop(connection.await) });
            }
        });
        (address, tasks)
    }

    /// Carries connections to a server; once told so, it swallows what comes over those that were there before.
    async fn proxy(to: std::net::SocketAddr) -> (std::net::SocketAddr, watch::Sender<bool>, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (lose, losing) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let far = TcpStream::connect(to).await.unwrap();
                let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
                let loses = !*losing.borrow();
                for (mut from, mut into) in [(from_near, to_far), (from_far, to_near)] {
                    let losing = losing.clone();
                    connections.spawn(async move {
                        let mut bytes = [0; 4096];
                        while let Ok(length @ 1..) = from.read(&mut bytes).await {
                            if loses && *losing.borrow() {
                                continue;
                            }
                            if into.write_all(&bytes[..length]).await.is_err() {
                                return;
                            }
                        }
                        // Not a word, also when the one end is gone.
                        std::future::pending::<()>().await;
                    });
                }
            }
        });
        (address, lose, tasks)
    }

    async fn call(pool: &Pool, authority: &str) -> Result<Bytes, BoxError> {
        let request = Request::get(format!("http://{authority}/")).body(RequestBody::default()).unwrap();
        let answer = tokio::time::timeout(PATIENCE, pool.clone().call(request)).await.expect("it comes to an end")?;
        Ok(answer.into_body().collect().await?.to_bytes())
    }

    #[tokio::test]
    async fn a_connection_that_loses_everything_is_given_up_and_the_next_call_has_another() {
        let (server, _serving) = server().await;
        let (proxy, lose, _carrying) = proxy(server).await;
        let short = crate::config::Duration::from_millis(100);
        let config = PoolConfig { keep_alive_interval: short, keep_alive_timeout: short, ..PoolConfig::default() };
        let pools = Pools::new(&config, HttpProtocol::Http2, &TlsConfig::default(), None).unwrap();
        let endpoint = Endpoint::at(&proxy.ip().to_string(), proxy.port());
        let pool = pools.pool(&endpoint);
        call(&pool, &endpoint.authority()).await.unwrap();
        lose.send_replace(true);
        call(&pool, &endpoint.authority()).await.expect_err("nothing comes back");
        call(&pool, &endpoint.authority()).await.expect("a new connection");
    }

    #[tokio::test]
    async fn an_endpoint_is_called_by_the_name_that_was_looked_up_and_else_by_its_own_host() {
        let (server, _serving) = server().await;
        let endpoint = Endpoint::at(&server.ip().to_string(), server.port());
        for (name, expected) in [(Some("inventory.test"), "inventory.test"), (None, "127.0.0.1")] {
            let pools = Pools::new(&PoolConfig::default(), HttpProtocol::Http2, &TlsConfig::default(), name).unwrap();
            let called = call(&pools.pool(&endpoint), &endpoint.authority()).await.unwrap();
            assert_eq!(called, format!("{expected}:{}", server.port()));
        }
    }
}
