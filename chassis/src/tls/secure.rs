//! TLS on rustls, with the provider named here: what else in the process chooses a default provider does not matter.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper::rt::{Read, Write};
use hyper_rustls::{ConfigBuilderExt as _, FixedServerNameResolver, HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier,
    client::WantsClientCert,
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName,
        pem::{self, PemObject as _},
    },
};
use tower_service::Service;

use super::{Alpn, TlsConfig, too_late};
use crate::error::{BoxError, Error, Result};

/// Makes connections: all of them over TLS, or all in cleartext.
#[derive(Clone)]
pub(crate) struct Connector<T = HttpConnector> {
    way: Way<T>,
    limit: Option<Duration>,
}

#[derive(Clone)]
enum Way<T> {
    Plain(T),
    Tls(HttpsConnector<T>, Arc<Expected>),
}

/// What is said of a handshake that failed.
struct Expected {
    tls: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
    ca: Option<PathBuf>,
    server_name: Option<String>,
    has_certificate: bool,
}

impl<T> Connector<T> {
    pub(super) fn new(tcp: T, config: &TlsConfig, alpn: Alpn) -> Result<Self> {
        if !config.enabled {
            return Ok(Self { way: Way::Plain(tcp), limit: None });
        }
        let mut tls = client_config(config)?;
        tls.alpn_protocols = vec![match alpn {
            Alpn::Http1 => b"http/1.1".to_vec(),
            Alpn::Http2 => b"h2".to_vec(),
        }];
        let name = server_name(config)?;
        let expected = Expected {
            tls: Arc::new(tls),
            name,
            ca: config.ca.clone(),
            server_name: config.server_name.clone(),
            has_certificate: config.cert.is_some(),
        };
        Ok(Self { way: Way::Tls(expected.over(tcp), Arc::new(expected)), limit: None })
    }

    /// The same over another transport.
    pub(crate) fn over<U>(&self, tcp: U) -> Connector<U> {
        let way = match &self.way {
            Way::Plain(_) => Way::Plain(tcp),
            Way::Tls(_, expected) => Way::Tls(expected.over(tcp), Arc::clone(expected)),
        };
        Connector { way, limit: self.limit }
    }

    /// How long a connection may take to be made, the handshake included.
    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }
}

/// What is refused, each part by itself: the authorities, this instance's own certificate, the name.
pub(super) fn refusals(config: &TlsConfig) -> Vec<Error> {
    if !config.enabled {
        return Vec::new();
    }
    let trusted = trusting(config).err();
    let own =
        builder().and_then(|builder| presenting(builder.with_root_certificates(RootCertStore::empty()), config)).err();
    let name = server_name(config).err();
    trusted.into_iter().chain(own).chain(name).collect()
}

fn server_name(config: &TlsConfig) -> Result<Option<ServerName<'static>>> {
    let Some(name) = &config.server_name else { return Ok(None) };
    ServerName::try_from(name.clone()).map(Some).map_err(|_| {
        Error::config(format!("server_name: found {name:?}, expected a host name such as \"inventory.internal\""))
    })
}

fn client_config(config: &TlsConfig) -> Result<ClientConfig> {
    presenting(trusting(config)?, config)
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal("TLS cannot be set up").caused_by(error))
}

/// Whom it trusts.
fn trusting(config: &TlsConfig) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    match &config.ca {
        Some(path) => Ok(builder()?.with_root_certificates(authorities(path)?)),
        None => builder()?.with_native_roots().map_err(|error| {
            Error::config(format!(
                "ca: not set, and this system has no certificates of authorities ({error}); name a PEM file, or install the \
                 system's (Debian: ca-certificates)"
            ))
        }),
    }
}

/// Who it is itself.
fn presenting(builder: ConfigBuilder<ClientConfig, WantsClientCert>, config: &TlsConfig) -> Result<ClientConfig> {
    match (&config.cert, &config.key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(cert), None) => {
            Err(Error::config(format!("cert: found {}, expected the file of its key in key too", cert.display())))
        }
        (None, Some(key)) => Err(Error::config(format!(
            "key: found {}, expected the file of its certificate in cert too",
            key.display()
        ))),
        (Some(cert), Some(key)) => {
            let chain = certificates("cert", cert)?;
            let private = private_key(key)?;
            builder.with_client_auth_cert(chain, private).map_err(|error| {
                Error::config(format!(
                    "key: {} does not belong to the certificate in {}: {error}",
                    key.display(),
                    cert.display()
                ))
            })
        }
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    const EXPECTED: &str = "a PEM file with a private key";
    let text = std::fs::read(path).map_err(|error| unread("key", path, EXPECTED, &error))?;
    if is_encrypted(&text) {
        return Err(Error::config(format!(
            "key: {} holds a key that is encrypted with a passphrase, expected one that is not, readable by this service \
             alone; decrypt it with `openssl pkey -in {} -out plain.key`",
            path.display(),
            path.display()
        )));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound => lacks("key", path, "private key", EXPECTED, &text),
        error => unread("key", path, EXPECTED, &error),
    })
}

/// Whether a PEM file holds an encrypted key: as PKCS #8 has it (RFC 5958), or as OpenSSL's older format (RFC 1421).
fn is_encrypted(text: &[u8]) -> bool {
    let has = |wanted: &[u8]| text.windows(wanted.len()).any(|part| part == wanted);
    has(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(b"Proc-Type: 4,ENCRYPTED")
}

/// The file holds none of this kind; it says what it holds in its place.
fn lacks(key: &str, path: &Path, kind: &str, expected: &str, text: &[u8]) -> Error {
    let text = String::from_utf8_lossy(text);
    let mut labels: Vec<_> =
        text.split("-----BEGIN ").skip(1).filter_map(|rest| rest.split_once("-----")).map(|(label, _)| label).collect();
    labels.dedup();
    let found = match (labels.is_empty(), text.trim().is_empty()) {
        (false, _) => format!("it holds {}", labels.join(", ")),
        (true, true) => "it is empty".to_owned(),
        (true, false) => "it is no PEM; DER is not read".to_owned(),
    };
    Error::config(format!("{key}: found no {kind} in {}, expected {expected}; {found}", path.display()))
}

fn authorities(path: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca", path)? {
        roots.add(certificate).map_err(|error| {
            Error::config(format!("ca: {} holds a certificate that is none of an authority: {error}", path.display()))
        })?;
    }
    Ok(roots)
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    const EXPECTED: &str = "a PEM file with at least one certificate";
    let text = std::fs::read(path).map_err(|error| unread(key, path, EXPECTED, &error))?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| unread(key, path, EXPECTED, &error))?;
    match found.is_empty() {
        true => Err(lacks(key, path, "certificate", EXPECTED, &text)),
        false => Ok(found),
    }
}

fn unread(key: &str, path: &Path, expected: &str, error: &dyn fmt::Display) -> Error {
    Error::config(format!("{key}: {} cannot be read: {error}; expected {expected}", path.display()))
}

impl<T> Service<Uri> for Connector<T>
where
    T: Service<Uri> + Clone + Send + 'static,
    T::Response: Read + Write + Connection + Unpin + Send + 'static,
    T::Future: Send + 'static,
    T::Error: Into<BoxError>,
{
    type Response = MaybeHttpsStream<T::Response>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match &mut self.way {
            Way::Plain(tcp) => tcp.poll_ready(cx).map_err(Into::into),
            Way::Tls(https, _) => https.poll_ready(cx),
        }
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let way = self.way.clone();
        let limit = self.limit;
        Box::pin(async move {
            let connecting = connect(way, uri);
            match limit {
                None => connecting.await,
                Some(limit) => tokio::time::timeout(limit, connecting).await.unwrap_or_else(|_| Err(too_late(limit))),
            }
        })
    }
}

async fn connect<T>(way: Way<T>, uri: Uri) -> Result<MaybeHttpsStream<T::Response>, BoxError>
where
    T: Service<Uri> + Send + 'static,
    T::Response: Read + Write + Connection + Unpin + Send + 'static,
    T::Future: Send + 'static,
    T::Error: Into<BoxError>,
{
    match way {
        Way::Plain(mut tcp) => Ok(MaybeHttpsStream::Http(tcp.call(uri).await.map_err(Into::into)?)),
        Way::Tls(mut https, expected) => {
            let other_end = uri.authority().map(ToString::to_string).unwrap_or_default();
            let host = uri.host().unwrap_or_default().to_owned();
            https.call(uri).await.map_err(|error| match tls_error(&*error) {
                Some(tls) => TlsError(expected.message(&other_end, &host, tls)).into(),
                None => error,
            })
        }
    }
}

/// The handshake's own error: `io::Error` keeps it where `source` does not look.
fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(tls);
    }
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => tls_error(inner),
        None => None,
    }
}

impl Expected {
    fn over<T>(&self, tcp: T) -> HttpsConnector<T> {
        let tls = Arc::clone(&self.tls);
        let mut https = match &self.name {
            None => HttpsConnector::from((tcp, tls)),
            Some(name) => HttpsConnector::new(tcp, tls, true, Arc::new(FixedServerNameResolver::new(name.clone()))),
        };
        https.enforce_https();
        https
    }

    fn message(&self, other_end: &str, host: &str, error: &rustls::Error) -> String {
        let mut text = format!("the TLS handshake with {other_end} failed: {error}");
        let advice = match error {
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                match &self.ca {
                    Some(ca) => format!("expected a certificate that an authority in {} has signed", ca.display()),
                    None => {
                        "expected a certificate that one of the system's authorities has signed; set tls.ca for another"
                            .to_owned()
                    }
                }
            }
            rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => match &self.server_name {
                Some(name) => format!("expected a certificate for {name}, as tls.server_name says"),
                None => format!("expected a certificate for {host}; set tls.server_name when it bears another name"),
            },
            rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
                "the other end does not speak the protocol of this client".to_owned()
            }
            rustls::Error::AlertReceived(
                AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure,
            ) if !self.has_certificate => {
                "the other end may want a certificate of this instance; set tls.cert and tls.key".to_owned()
            }
            rustls::Error::InvalidMessage(_) => {
                "the other end does not speak TLS; is the target in cleartext?".to_owned()
            }
            _ => return text,
        };
        text.push_str("; ");
        text.push_str(&advice);
        text
    }
}

/// A handshake that failed: there is no connection.
#[derive(Debug)]
struct TlsError(String);

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}

impl<T> fmt::Debug for Connector<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.way {
            Way::Plain(_) => "Connector(plain)",
            Way::Tls(..) => "Connector(tls)",
        })
    }
}
