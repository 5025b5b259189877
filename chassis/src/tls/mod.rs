//! TLS of calls out: whom this instance trusts, and who it is.

mod config;
#[cfg(not(feature = "tls"))]
mod none;
#[cfg(feature = "tls")]
mod secure;

use std::{io, time::Duration};

use hyper_util::client::legacy::connect::HttpConnector;

#[cfg(not(feature = "tls"))]
use self::none as imp;
#[cfg(feature = "tls")]
use self::secure as imp;
use crate::error::{BoxError, Result};

pub(crate) use self::imp::Connector;
pub use config::TlsConfig;

/// The protocol that a connection is made for; over TLS the two ends agree on it (ALPN, RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alpn {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// A connector for HTTP/1.1: over TLS when it is `enabled`, and in cleartext when it is not.
///
/// # Errors
///
/// As [`connector_for`].
pub(crate) fn connector(mut tcp: HttpConnector, config: &TlsConfig) -> Result<Connector> {
    tcp.enforce_http(!config.enabled);
    connector_for(tcp, config, Alpn::Http1)
}

/// A connector for this protocol: over TLS when it is `enabled`, and in cleartext when it is not. The scheme of what is
/// called must fit: `tcp` is to refuse `https` when it is not enabled, so that nothing meant for TLS goes in cleartext.
///
/// The files are read here, and once: a certificate that was exchanged counts after a restart.
///
/// # Errors
///
/// Exit code 78: a certificate or key that cannot be read, half of a pair, or TLS in a build without it. The message names
/// the key below `tls`, what was found and what was expected.
pub(crate) fn connector_for<T>(tcp: T, config: &TlsConfig, alpn: Alpn) -> Result<Connector<T>> {
    Connector::new(tcp, config, alpn)
}

/// What a start with this would refuse, all of it: the key below `tls`, and what is wrong. Reads the files.
pub(crate) fn mistakes(config: &TlsConfig) -> Vec<(String, String)> {
    let read = |error: crate::error::Error| {
        let text = error.to_string();
        match text.split_once(": ") {
            Some((key @ ("ca" | "cert" | "key" | "server_name"), message)) => (key.to_owned(), message.to_owned()),
            _ => ("enabled".to_owned(), text),
        }
    };
    imp::refusals(config).into_iter().map(read).collect()
}

fn too_late(limit: Duration) -> BoxError {
    let limit = crate::config::Duration(limit);
    io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {limit}")).into()
}
