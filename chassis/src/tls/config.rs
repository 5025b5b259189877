//! `tls` of a destination and of Consul.

use std::path::PathBuf;

/// How the other end proves who it is, and how this instance does.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// Whether calls go over TLS. For targets that do not say it themselves, as `https://` does.
    pub enabled: bool,
    /// A PEM file with the certificates of the authorities to trust. The system's when unset.
    pub ca: Option<PathBuf>,
    /// A PEM file with this instance's own certificate, and its chain.
    pub cert: Option<PathBuf>,
    /// A PEM file with the key of `cert`.
    pub key: Option<PathBuf>,
    /// The name that the other end's certificate must bear. When unset, the host that is called; for a `dns://` target, the name
    /// that was looked up.
    pub server_name: Option<String>,
}

impl TlsConfig {
    /// Whether anything is said of how TLS is to be, whether or not it is enabled here.
    pub(crate) fn says_anything(&self) -> bool {
        self.ca.is_some() || self.cert.is_some() || self.key.is_some() || self.server_name.is_some()
    }
}
