//! A build without the feature `tls`: cleartext, and a refusal of anything else.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use tower_service::Service;

use super::{Alpn, TlsConfig};
use crate::error::{Error, Result};

/// Makes connections in cleartext.
#[derive(Debug, Clone)]
pub(crate) struct Connector(HttpConnector);

impl Connector {
    pub(super) fn new(tcp: HttpConnector, config: &TlsConfig, _alpn: Alpn) -> Result<Self> {
        if config.enabled || config.says_anything() {
            return Err(Error::config(
                "found TLS, and this program was built without it; add the cargo feature \"tls\" of chassis-rs, which is one of its \
                 defaults, or take the tls keys and https:// out",
            ));
        }
        Ok(Self(tcp))
    }

    /// How long a connection may take to be made.
    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.0.set_connect_timeout(Some(limit));
        self
    }
}

impl Service<Uri> for Connector {
    type Response = <HttpConnector as Service<Uri>>::Response;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = <HttpConnector as Service<Uri>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        self.0.call(uri)
    }
}
