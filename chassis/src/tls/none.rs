//! A build without the feature `tls`: cleartext, and a refusal of anything else.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use tower_service::Service;

use super::{Alpn, TlsConfig, too_late};
use crate::error::{BoxError, Error, Result};

/// Makes connections in cleartext.
#[derive(Debug, Clone)]
pub(crate) struct Connector<T = HttpConnector> {
    tcp: T,
    limit: Option<Duration>,
}

/// What is refused.
pub(super) fn refusals(config: &TlsConfig) -> Vec<Error> {
    Connector::new((), config, Alpn::Http1).err().into_iter().collect()
}

impl<T> Connector<T> {
    pub(super) fn new(tcp: T, config: &TlsConfig, _alpn: Alpn) -> Result<Self> {
        if config.enabled || config.says_anything() {
            return Err(Error::config(
                "found TLS, and this program was built without it; add the cargo feature \"tls\" of chassis-rs, or take the tls \
                 keys and https:// out",
            ));
        }
        Ok(Self { tcp, limit: None })
    }

    /// The same over another transport.
    pub(crate) fn over<U>(&self, tcp: U) -> Connector<U> {
        Connector { tcp, limit: self.limit }
    }

    /// How long a connection may take to be made.
    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl<T> Service<Uri> for Connector<T>
where
    T: Service<Uri>,
    T::Future: Send + 'static,
    T::Error: Into<BoxError>,
{
    type Response = T::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<T::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, limit) = (self.tcp.call(uri), self.limit);
        Box::pin(async move {
            match limit {
                None => connecting.await.map_err(Into::into),
                Some(limit) => match tokio::time::timeout(limit, connecting).await {
                    Ok(connected) => connected.map_err(Into::into),
                    Err(_) => Err(too_late(limit)),
                },
            }
        })
    }
}
