//! TLS of calls out: whom this instance trusts, and who it is.

mod config;

use hyper_util::client::legacy::connect::HttpConnector;

pub use config::TlsConfig;

use crate::error::Result;

/// Makes connections, in cleartext for `http` and over TLS for `https`.
pub(crate) type Connector = HttpConnector;

/// A connector over plain TCP connections.
///
/// # Errors
///
/// A certificate or key that cannot be read.
pub(crate) fn connector(tcp: HttpConnector, _config: &TlsConfig) -> Result<Connector> {
    Ok(tcp)
}
