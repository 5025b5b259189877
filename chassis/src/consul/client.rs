//! One call of Consul's HTTP API.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

use super::{
    config::ConsulConfig,
    cursor::{Cursor, News},
};
use crate::{
    clock::now,
    error::{BoxError, Error, Result, chain},
    tls::{self, Connector, TlsConfig},
};

/// How long a call that does not wait for a change may take. Chosen: an agent beside the instance answers within
/// milliseconds, and one that forwards to a new leader within seconds.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one connection may take. Chosen: TCP sends a lost packet again after 1 s, so an agent that is back is reached by
/// then or by the next try.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// What an answer to a held query may take beyond its wait. Chosen: as long as a garbage collection or a retransmission.
const BLOCKING_GRACE: Duration = Duration::from_secs(2);
/// The largest answer: 10,000 instances take about 10 MB.
const ANSWER_LIMIT: usize = 64 * 1024 * 1024;

/// How many characters are shown of an answer that cannot be read. Chosen: enough to tell a page of HTML from JSON.
const BEGINNING: usize = 60;

/// What Consul adds to an answer from which its access control has taken something out.
const FILTERED: &str = "x-consul-results-filtered-by-acls";

/// The agent, as its HTTP API has it. Cheap to clone.
#[derive(Clone)]
pub struct Consul(Arc<Inner>);

struct Inner {
    address: String,
    /// The host and port of it.
    host: (String, u16),
    /// Datacenter, namespace and partition, ready to be put behind a query.
    scope: String,
    token: Option<HeaderValue>,
    /// Over TLS, and without a certificate of this instance.
    unnamed: bool,
    http: legacy::Client<Connector, Full<Bytes>>,
}

/// What the agent answered.
#[derive(Debug, Clone)]
pub struct ConsulAnswer {
    /// The status.
    pub status: StatusCode,
    /// `X-Consul-Index`, for the next blocking query.
    pub index: Option<u64>,
    /// Whether the token may not see all of it (`X-Consul-Results-Filtered-By-ACLs`): the body holds the rest.
    pub filtered: bool,
    /// The body.
    pub body: Bytes,
}

/// Why a call of Consul failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConsulError {
    /// No answer: no connection, or none in time.
    Unreachable {
        /// What was asked.
        call: String,
        /// Why.
        source: BoxError,
    },
    /// An answer that is no success.
    Refused {
        /// What was asked.
        call: String,
        /// The status.
        status: StatusCode,
        /// What Consul said.
        message: String,
    },
    /// An answer that cannot be read.
    Undecodable {
        /// What was asked.
        call: String,
        /// Why.
        message: String,
    },
}

impl Consul {
    /// The agent of these settings. No connection is made yet.
    ///
    /// # Errors
    ///
    /// An address, a token or a certificate that makes no sense.
    pub fn new(config: &ConsulConfig) -> Result<Self> {
        let at = address(config).map_err(|message| Error::config(format!("consul.address: {message}")))?;
        let token = token(config).map_err(|message| Error::config(format!("consul.token: {message}")))?;
        let connector = connector(config, &at).map_err(|(key, message)| Error::config(format!("{key}: {message}")))?;
        let unnamed = at.secure && config.tls.cert.is_none();
        let At { address, host, .. } = at;
        let mut scope = String::new();
        for (name, value) in [("dc", &config.datacenter), ("ns", &config.namespace), ("partition", &config.partition)] {
            if let Some(value) = value {
                let value = percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC);
                scope.push_str(&format!("&{name}={value}"));
            }
        }
        let http = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Self(Arc::new(Inner { address, host, scope, token, unnamed, http })))
    }

    /// What [`new`](Self::new) refuses, all of it: the key, and what is wrong.
    pub(crate) fn mistakes(config: &ConsulConfig) -> Vec<(String, String)> {
        let mut mistakes = Vec::new();
        match address(config) {
            Ok(at) => {
                let tls = TlsConfig { enabled: at.secure, ..config.tls.clone() };
                let found = tls::mistakes(&tls).into_iter();
                mistakes.extend(found.map(|(key, message)| (format!("consul.tls.{key}"), message)));
            }
            Err(message) => mistakes.push(("consul.address".to_owned(), message)),
        }
        mistakes.extend(token(config).err().map(|message| ("consul.token".to_owned(), message.to_owned())));
        mistakes
    }

    /// With TLS 1.3 the other end can say that it wants a certificate only when the connection is there already, and its words
    /// may be lost with it.
    fn explained(&self, error: legacy::Error) -> BoxError {
        if !self.0.unnamed || error.is_connect() {
            return error.into();
        }
        let mut text = chain(&error);
        text.push_str("; the agent may want a certificate of this instance: set consul.tls.cert and consul.tls.key");
        text.into()
    }

    /// One call: `path` with its query (`/v1/health/service/orders?passing`), at most `limit` for all of the answer.
    ///
    /// An answer that is no success is an answer here; see [`ConsulAnswer::success`].
    ///
    /// # Errors
    ///
    /// No answer in time.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        limit: Duration,
    ) -> Result<ConsulAnswer, ConsulError> {
        let call = || format!("{method} {}{path}", self.0.address);
        let unreachable = |source: BoxError| ConsulError::Unreachable { call: call(), source };
        let query = if path.contains('?') { "" } else { "?" };
        let scope = if query.is_empty() { self.0.scope.as_str() } else { self.0.scope.trim_start_matches('&') };
        let query = if scope.is_empty() { "" } else { query };
        let mut request = Request::builder().method(&method).uri(format!("{}{path}{query}{scope}", self.0.address));
        if let Some(token) = &self.0.token {
            request = request.header("x-consul-token", token);
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body.unwrap_or_default())).map_err(|error| unreachable(error.into()))?;
        let answered = async {
            let response = self.0.http.request(request).await.map_err(|error| self.explained(error))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_LIMIT).collect().await?.to_bytes();
            let index = parts.headers.get("x-consul-index").and_then(|index| index.to_str().ok()?.parse().ok());
            let filtered = parts.headers.get(FILTERED).is_some_and(|filtered| filtered == "true");
            Ok(ConsulAnswer { status: parts.status, index, filtered, body })
        };
        match tokio::time::timeout(limit, answered).await {
            Ok(answered) => answered.map_err(unreachable),
            Err(_) => Err(unreachable(format!("no answer within {}", crate::config::Duration(limit)).into())),
        }
    }
}

impl Consul {
    /// Waits until what `path` gives has changed since the cursor's last answer, at most `wait`; the first query is answered
    /// at once. Only for paths that Consul can hold (its documentation says which).
    ///
    /// `None`: the wait is over and nothing has changed, neither the index nor the body. 404 is an answer here, with an index of
    /// its own: nothing is there. The same cursor is for the same path. It also keeps the pause before the query: a short one
    /// when answers come at once, a growing one with full jitter after failures (100 ms to 1 s while Consul is away, to 10 s while
    /// it refuses), so a loop around this call needs no other. After a failure the next success is never `None`, also when Consul came back empty.
    ///
    /// Cancel safe: the cursor moves with an answer, and with it only.
    ///
    /// # Errors
    ///
    /// No answer within `wait` + 1/16 + 2 s (Consul itself adds up to 1/16), or within 5 s where Consul does not wait: to the
    /// first query, and to each after a failure. Or one that is neither a success nor 404.
    pub async fn blocking(
        &self,
        path: &str,
        cursor: &mut Cursor,
        wait: Duration,
    ) -> Result<Option<ConsulAnswer>, ConsulError> {
        tokio::time::sleep(cursor.pause(now())).await;
        let sent = now();
        let mark = if path.contains('?') { '&' } else { '?' };
        let held = format!("{path}{mark}index={}&wait={}ms", cursor.index(), wait.as_millis());
        // Without an index there is nothing to wait for.
        let limit = if cursor.index() == 0 { CALL_TIMEOUT } else { held_limit(wait) };
        let answered = self.call(Method::GET, &held, None, limit).await;
        let answered = answered.and_then(|answer| match answer.status {
            StatusCode::NOT_FOUND => Ok(answer),
            _ => answer.success(&format!("GET {}{path}", self.0.address)),
        });
        match answered {
            Ok(answer) => match cursor.answered(answer.index, &answer.body, sent) {
                News::Changed => Ok(Some(answer)),
                News::Same => Ok(None),
            },
            Err(error) => {
                cursor.failed(now(), error.is_away(), fastrand::f64());
                Err(error)
            }
        }
    }

    /// The host and port of the agent's address.
    pub(crate) fn host(&self) -> (&str, u16) {
        (&self.0.host.0, self.0.host.1)
    }

    /// The agent's address, with its scheme.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.0.address
    }
}

/// How long the answer to a query that Consul holds for `wait` may take. Consul itself adds up to 1/16.
pub(super) fn held_limit(wait: Duration) -> Duration {
    wait + wait / 16 + BLOCKING_GRACE
}

/// The agent's address, and what it says.
pub(crate) struct At {
    address: String,
    pub(crate) host: (String, u16),
    secure: bool,
}

/// The address, whole; or what is wrong with it.
pub(crate) fn address(config: &ConsulConfig) -> Result<At, String> {
    let text = config.address.as_str();
    // Not even the text is repeated: it holds a password.
    if text.contains('@') {
        return Err("found credentials before an @, expected none; the ACL token is consul.token".to_owned());
    }
    // As Consul's own tools: TLS that was asked for is not taken back by an address that says http.
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let scheme = if config.tls.enabled && scheme == "http" { "https" } else { scheme };
    let address = format!("{scheme}://{}", rest.trim_end_matches('/'));
    let uri: Option<http::Uri> = address.parse().ok();
    // What stands behind the host, and is no port, would be taken for none. Nothing listens on port 0.
    let is_whole = |uri: &http::Uri| {
        let authority = uri.authority();
        uri.port_u16() != Some(0)
            && uri.query().is_none()
            && authority.is_some_and(|authority| authority.port().is_some() || authority.as_str() == authority.host())
    };
    let uri = uri.filter(|uri| is_whole(uri));
    let port = |uri: &http::Uri| match (uri.port_u16(), uri.scheme_str()) {
        (Some(port), Some("http" | "https")) => Some(port),
        (None, Some("http")) => Some(80),
        (None, Some("https")) => Some(443),
        _ => None,
    };
    let host = uri.as_ref().and_then(|uri| Some((uri.host()?.to_owned(), port(uri)?)));
    let expected = "expected http://host:port or https://host:port of a Consul agent";
    let host = host.ok_or_else(|| format!("found {address:?}, {expected}"))?;
    Ok(At { secure: scheme == "https", address, host })
}

fn token(config: &ConsulConfig) -> Result<Option<HeaderValue>, &'static str> {
    let Some(token) = config.token.as_ref().filter(|token| !token.expose().is_empty()) else { return Ok(None) };
    let header = HeaderValue::from_str(token.expose());
    let mut header = header.map_err(|_| "found a text that no header can hold, expected a Consul ACL token")?;
    header.set_sensitive(true);
    Ok(Some(header))
}

/// How the agent is reached; or the key, and what is wrong with it.
fn connector(config: &ConsulConfig, at: &At) -> Result<Connector, (String, String)> {
    let tls = TlsConfig { enabled: at.secure, ..config.tls.clone() };
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_nodelay(true);
    // A held query says nothing for a minute: the connection is asked whether the other end is still there. Default as Go's.
    tcp.set_keepalive(Some(Duration::from_secs(15)));
    tls::connector(tcp, &tls).map_err(|error| {
        let text = error.to_string();
        // It names the key below `tls`, when it is about one.
        match text.split_once(": ") {
            Some((key @ ("ca" | "cert" | "key" | "server_name"), message)) => {
                (format!("consul.tls.{key}"), message.to_owned())
            }
            _ => ("consul.tls".to_owned(), text),
        }
    })
}

impl ConsulAnswer {
    /// Reads the body.
    ///
    /// # Errors
    ///
    /// It is no such JSON.
    pub fn json<T: serde::de::DeserializeOwned>(&self, call: &str) -> Result<T, ConsulError> {
        let read = serde_json::from_slice(&self.body);
        read.map_err(|error| {
            // A proxy's page, or a body that somebody has compressed, is told best by how it begins.
            let start: String = String::from_utf8_lossy(&self.body).chars().take(BEGINNING).collect();
            let message = format!("found an answer that begins with {start:?}, expected Consul's JSON: {error}");
            ConsulError::Undecodable { call: call.to_owned(), message }
        })
    }

    /// The answer, if it is a success.
    ///
    /// # Errors
    ///
    /// What Consul said instead.
    pub fn success(self, call: &str) -> Result<Self, ConsulError> {
        if self.status.is_success() {
            return Ok(self);
        }
        let message = String::from_utf8_lossy(&self.body).trim().chars().take(300).collect();
        Err(ConsulError::Refused { call: call.to_owned(), status: self.status, message })
    }
}

impl fmt::Debug for Consul {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consul").field("address", &self.0.address).finish_non_exhaustive()
    }
}

impl fmt::Display for ConsulError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { call, source } => write!(f, "{call}: {}", chain(&**source)),
            Self::Refused { call, status, message } => write!(f, "{call}: {} {message}", status.as_u16()),
            Self::Undecodable { call, message } => write!(f, "{call}: {message}"),
        }
    }
}

impl std::error::Error for ConsulError {}
