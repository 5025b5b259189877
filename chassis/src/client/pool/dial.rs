//! The way to one endpoint: addresses, TCP, TLS.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Uri, uri::Scheme};
use hyper_util::{
    client::legacy::connect::{HttpConnector, dns::GaiResolver},
    rt::TokioIo,
};
use tower_service::Service;

use super::socket::Socket;
use crate::{
    client::{
        config::PoolConfig,
        observe::{Phase, Timed},
    },
    error::{BoxError, Result},
    tls::{self, Alpn, Connector, TlsConfig},
};

/// Every look-up and every connection is an event of the attempt that asked for it.
type Tcp = Timed<HttpConnector<Timed<GaiResolver>>>;
type Secured = Timed<Connector<Dial>>;

/// With or without TLS; only where there is TLS it has a time.
#[derive(Debug, Clone)]
pub(super) enum Way {
    Plain(Connector<Dial>),
    Tls(Secured),
}

/// Goes to one endpoint, whatever name it is called by.
#[derive(Debug, Clone)]
pub(super) struct Dial {
    tcp: Tcp,
    to: Uri,
}

/// How connections for a protocol are made.
#[derive(Debug)]
pub(super) struct Transport {
    tcp: Tcp,
    connector: Connector<()>,
    scheme: Scheme,
}

impl Transport {
    /// # Errors
    ///
    /// Exit code 78: a certificate or key that cannot be read.
    pub(super) fn new(config: &PoolConfig, tls: &TlsConfig, alpn: Alpn) -> Result<Self> {
        let mut tcp = HttpConnector::new_with_resolver(Timed::new(Phase::Dns, GaiResolver::new()));
        tcp.enforce_http(!tls.enabled);
        tcp.set_connect_timeout(Some(config.connect_timeout.get()));
        // Requests are written whole: to wait for more only costs time.
        tcp.set_nodelay(true);
        ask_idle(&mut tcp, config, alpn);
        let connector = tls::connector_for((), tls, alpn)?.within(config.connect_timeout.get());
        let scheme = if tls.enabled { Scheme::HTTPS } else { Scheme::HTTP };
        Ok(Self { tcp: Timed::new(Phase::Connect, tcp), connector, scheme })
    }

    /// The way to this address.
    pub(super) fn way(&self, to: Uri) -> Way {
        let connector = self.connector.over(Dial { tcp: self.tcp.clone(), to });
        match self.scheme == Scheme::HTTPS {
            true => Way::Tls(Timed::new(Phase::Tls, connector)),
            false => Way::Plain(connector),
        }
    }
}

/// Makes TCP ask over idle connections whether the other end is still there.
fn ask_idle<R>(tcp: &mut HttpConnector<R>, config: &PoolConfig, alpn: Alpn) {
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

impl Service<Uri> for Dial {
    type Response = TokioIo<Socket>;
    type Error = <Tcp as Service<Uri>>::Error;
    type Future = Dialing;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(cx)
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Dialing(Box::pin(self.tcp.call(self.to.clone())))
    }
}

/// A TCP connection being made.
pub(super) struct Dialing(Pin<Box<<Tcp as Service<Uri>>::Future>>);

impl Future for Dialing {
    type Output = Result<TokioIo<Socket>, <Tcp as Service<Uri>>::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let connected = ready!(self.0.as_mut().poll(cx));
        Poll::Ready(connected.map(|tcp| TokioIo::new(Socket::new(tcp.into_inner()))))
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
