//! Typed clients of other services: what `#[chassis::client]` generates, and what a person writes by hand in its place.
//!
//! ```
//! use chassis::client::{CallError, Client, client};
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! pub struct Order {
//!     id: u64,
//! }
//!
//! /// The orders service, as its callers see it.
//! #[client(version = "v1")]
//! pub trait OrdersApi {
//!     /// Look one order up.
//!     #[get("/orders/{id}", timeout = "2s")]
//!     async fn order(&self, id: u64) -> Result<Order, CallError>;
//! }
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let orders = OrdersApiClient::new(Client::new("http://orders:8080").map_err(|error| error.to_string())?);
//! match orders.order(7).await {
//!     Ok(order) => println!("order {}", order.id),
//!     Err(error) if error.code() == Some("order_unknown") => println!("there is none"),
//!     Err(error) => return Err(error.into()),
//! }
//! # Ok(()) }
//! ```
//!
//! By hand the same is
//!
//! ```
//! # #[derive(serde::Serialize, serde::Deserialize)] pub struct Order { id: u64 }
//! use std::time::Duration;
//!
//! use chassis::{client::{CallError, Client}, service::Created};
//! use http::Method;
//!
//! async fn order(client: &Client, id: u64) -> Result<Order, CallError> {
//!     client.call(Method::GET, "/v1/orders/{id}").path("id", &id).timeout(Duration::from_secs(2)).json().await
//! }
//!
//! async fn place(client: &Client, order: &Order) -> Result<Created<Order>, CallError> {
//!     client.call(Method::POST, "/v1/orders").body(order).answer().await
//! }
//! ```
//!
//! A call made while a request is served belongs to it: it has no more time than the request has left, and it carries the
//! request's trace and baggage when it goes to a destination; a plain client sends neither unless
//! [`propagate`](ClientBuilder::propagate) says so. The service called is told how long that is, in
//! [`x-request-timeout-ms`](crate::deadline::TIMEOUT_HEADER); a call whose time is up is not sent. A call that is dropped
//! is broken off. A plain client tries nothing twice, except on a kept connection that the other end had closed before the
//! request was written. A client of a destination, [`Chassis::client`](crate::Chassis::client), has the whole stack around
//! its connections: a deadline, a limit, hedges, retries, a balancer, and for each endpoint a breaker.

mod answer;
pub mod balance;
pub(crate) mod body;
pub mod breaker;
mod call;
pub(crate) mod channel;
mod config;

pub mod deadline;
pub(crate) mod dependency;
pub(crate) mod destination;
mod error;
mod facts;
pub(crate) mod fallback;
pub(crate) mod grpc_status;
pub mod hedge;
mod http;
mod hurry;
pub(crate) mod knock;
pub(crate) mod levers;
pub mod limit;
pub mod observe;
mod outcome;
mod path;
mod plain;
pub(crate) mod pool;
mod problem;
pub(crate) mod propagate;
mod query;
mod replay;
pub mod retry;
pub(crate) mod select;

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use ::http::{
    Method, Request, Response, Uri,
    uri::{Authority, Scheme},
};
use bytes::Bytes;
use tower_service::Service;

use self::{
    destination::Destination,
    http::{Plain, Tower, Transport},
    propagate::Propagation,
};
use crate::{
    config::ByteSize,
    discovery::{Endpoint, Target},
    error::{BoxError, Error, Result},
    tls::TlsConfig,
};

#[cfg(feature = "cache")]
pub(crate) use self::outcome::code_of_error;
pub use self::{
    answer::{Answer, FromAnswer},
    body::RequestBody,
    call::{Attempt, Call, CallInfo},
    channel::{Channel, Idempotent},
    config::{ClientConfig, HttpProtocol, PoolConfig},
    error::{CallError, CallErrorKind, NotSent},
    facts::UpstreamAttempt,
    outcome::{Outcome, TimedOut},
    problem::{RemoteProblem, RemoteViolation},
    propagate::Propagated,
};
/// Makes a client of a trait: `OrdersApi` gives `OrdersApiClient`, which implements it over HTTP.
///
/// The methods carry the attributes of the service's handlers, so they can be copied from there, and follow the same rule:
/// an argument that the path names goes into the path; on GET, HEAD and DELETE the one further argument is the query, on
/// the others the JSON body. Arguments are `serde::Serialize` and may be borrowed: `&NewOrder`, `&str`.
///
/// A method is `async`, takes `&self` and returns a `Result`. Its error is a [`CallError`], or any type that implements
/// `From<CallError>`. Its value is JSON, or `Created<T>`, `Accepted<T>`, `NoContent`, `()`, `Raw<String>`, or an
/// `http::Response`, which is handed over whatever its status. An `Option<T>` is JSON that may be `null`, as on the
/// server; a 404 is always an error, since it may as well mean that the path is wrong.
///
/// The trait's methods become `fn …(&self, …) -> impl Future<Output = …> + Send`; an `async fn` implements them, so a test
/// can have a stand-in of its own. A method with a body and without a route stays as it is.
///
/// `#[fallback(method)]` names another method of the trait that answers when the call fails: one with a body, or another
/// call. It takes the same arguments, and `error: &CallError` after them if it wants to know, and returns the same. It stands
/// in for a service that failed or cannot be had ([`CallError::may_fall_back`]), not for one that says that the call is
/// wrong. Each time is counted as `chassis.client.fallbacks` and told in the log.
///
/// Keys of a route: `timeout = "2s"`, how long the call may take (default: the client's); `idempotent`, a second call does
/// no harm. Keys of the trait: `version = "v1"` and `path = "/shop"`, put before every path as `/v1/shop`.
pub use chassis_rs_macros::client;

/// How long a call may take unless it says otherwise: 15 s, as Envoy's routes have it.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a connection may take to be made: 5 s, as Envoy's clusters have it.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer that is read into memory: 4 MiB, as gRPC's clients have it.
pub const DEFAULT_ANSWER_LIMIT: ByteSize = ByteSize::mib(4);

/// A way to another service: its address, its connections, and what holds for every call. Cheap to clone.
///
/// As many connections are made as calls are under way; when a call has ended its connection waits for the next, for 50 s
/// at most. With the last clone, and the last answer that is still streamed, the connections end.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    base: Base,
    transport: Arc<dyn Transport>,
    timeout: Timeout,
    answer_limit: usize,
    /// What travels with a call, unless the transport has settings of its own.
    propagation: Propagation,
}

/// How long a call may take unless it says otherwise.
#[derive(Debug)]
enum Timeout {
    Fixed(Duration),
    /// What the settings of the destination say now.
    Of(Arc<Destination>),
}

/// Where the calls go.
#[derive(Debug)]
struct Base {
    https: bool,
    authority: Authority,
    /// What is put before every path: empty, or `/shop`.
    prefix: String,
    /// The path of the address as it was written: what a call of the empty template goes to.
    path: String,
}

impl Client {
    /// The service at this address: `http://orders:8080`, with the defaults of [`ClientBuilder`]. No connection is made yet.
    ///
    /// # Errors
    ///
    /// The address makes no sense; or it is `https://` and the system has no authorities to trust, or this program no
    /// feature `tls`.
    pub fn new(uri: &str) -> Result<Self> {
        Self::builder(uri).build()
    }

    /// A client with other values than the defaults.
    pub fn builder(uri: impl Into<String>) -> ClientBuilder {
        ClientBuilder {
            uri: uri.into(),
            timeout: DEFAULT_TIMEOUT,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            answer_limit: DEFAULT_ANSWER_LIMIT,
            http2: false,
            tls: TlsConfig::default(),
            propagation: Propagation::STRANGER,
        }
    }

    /// The service at this address through a tower service of your own, with the defaults of [`ClientBuilder`].
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_service<S, B>(uri: &str, service: S) -> Result<Self>
    where
        S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self::builder(uri).service(service)
    }

    fn over(base: Base, transport: Arc<dyn Transport>, builder: &ClientBuilder) -> Self {
        let ClientBuilder { timeout, answer_limit, propagation, .. } = *builder;
        let (timeout, answer_limit) = (Timeout::Fixed(timeout), answer_limit.bytes());
        Self(Arc::new(Shared { base, transport, timeout, answer_limit, propagation }))
    }

    /// Calls of a destination; its name stands where a host would.
    pub(crate) fn to(destination: Arc<Destination>) -> Result<Self> {
        let name = destination.name();
        let authority = name.parse::<Authority>().map_err(|error| {
            Error::config(format!("clients.{name}: found the name {name:?}, expected one that a URI can hold: {error}"))
        })?;
        let base = Base { https: false, authority, prefix: String::new(), path: "/".to_owned() };
        let answer_limit = destination.answer_limit();
        let timeout = Timeout::Of(Arc::clone(&destination));
        let propagation = Propagation::ALL;
        Ok(Self(Arc::new(Shared { base, transport: destination, timeout, answer_limit, propagation })))
    }

    /// Where a host of this address is found: scheme, host and port.
    pub(crate) fn origin(uri: &str) -> Result<Target> {
        let base = Base::read(uri)?;
        let origin = format!("{}://{}", base.scheme(), base.authority.as_str().to_ascii_lowercase());
        origin.parse().map_err(|error| Error::config(format!("{error}")))
    }

    /// Calls of an address by way of the stack of its host.
    pub(crate) fn at(uri: &str, destination: Arc<Destination>) -> Result<Self> {
        let base = Base::read(uri)?;
        let answer_limit = destination.answer_limit();
        let timeout = Timeout::Of(Arc::clone(&destination));
        let propagation = Propagation::STRANGER;
        Ok(Self(Arc::new(Shared { base, transport: destination, timeout, answer_limit, propagation })))
    }

    /// Where its calls go: the target of its section, or the address that it was made with.
    #[must_use]
    pub fn target(&self) -> String {
        match &self.0.timeout {
            Timeout::Of(destination) if self.0.base.authority.as_str() == &**destination.name() => {
                destination.target().to_string()
            }
            _ => format!("{}://{}{}", self.0.base.scheme(), self.0.base.authority, self.0.base.path),
        }
    }

    /// What travels with a call now.
    fn propagation(&self) -> Propagation {
        self.0.transport.propagation().unwrap_or(self.0.propagation)
    }

    /// How long a call may take unless it says otherwise.
    fn timeout(&self) -> Duration {
        match &self.0.timeout {
            Timeout::Fixed(timeout) => *timeout,
            Timeout::Of(destination) => destination.timeout(),
        }
    }

    /// A call of this method on a path template: `/orders/{id}`; of the empty one, on the path of the client's own address.
    pub fn call(&self, method: Method, template: impl Into<Cow<'static, str>>) -> Call {
        Call::new(self.clone(), method, template.into())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.0.base)
            .field("transport", &self.0.transport)
            .field("timeout", &self.0.timeout)
            .finish_non_exhaustive()
    }
}

/// Values of a [`Client`].
#[derive(Debug, Clone)]
#[must_use = "`build` makes the client"]
pub struct ClientBuilder {
    uri: String,
    timeout: Duration,
    connect_timeout: Duration,
    answer_limit: ByteSize,
    http2: bool,
    tls: TlsConfig,
    propagation: Propagation,
}

impl ClientBuilder {
    /// How long a call may take, its answer included. Default [`DEFAULT_TIMEOUT`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long a connection may take to be made. Default [`DEFAULT_CONNECT_TIMEOUT`]. Not for a service of your own.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The largest answer that is read into memory. Default [`DEFAULT_ANSWER_LIMIT`]. It does not limit what is streamed.
    pub fn answer_limit(mut self, limit: ByteSize) -> Self {
        self.answer_limit = limit;
        self
    }

    /// One HTTP/2 connection for all calls, in cleartext with prior knowledge (RFC 9113 §3.3). Default HTTP/1.1. Not for a
    /// service of your own.
    pub fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// How the service proves who it is, and how this one does. For `https://`; default: the system's authorities, and no
    /// certificate of its own. Not for a service of your own.
    pub fn tls(mut self, tls: TlsConfig) -> Self {
        self.tls = tls;
        self
    }

    /// What travels with a call that a handler makes. Default: the time that is left, and nothing else, since nothing is known
    /// of who is called; for a service of the same fleet, [`Propagated::ALL`]. This client has no name of its own to tell, so
    /// [`Propagated::Caller`] has no effect.
    ///
    /// ```
    /// use chassis::client::{Client, Propagated};
    ///
    /// let inventory = Client::builder("http://inventory:8080").propagate(Propagated::ALL).build();
    /// assert!(inventory.is_ok());
    /// ```
    pub fn propagate(mut self, what: impl AsRef<[Propagated]>) -> Self {
        self.propagation = Propagation::of(what.as_ref());
        self
    }

    /// The client, over connections of its own.
    ///
    /// # Errors
    ///
    /// As [`Client::new`]; and what is wrong with the files of [`tls`](Self::tls).
    pub fn build(self) -> Result<Client> {
        let base = Base::read(&self.uri)?;
        if !base.https && (self.tls.enabled || self.tls.says_anything()) {
            return Err(Error::config(format!("found TLS settings for {:?}, expected https://", self.uri)));
        }
        let tls = TlsConfig { enabled: base.https, ..self.tls.clone() };
        let transport = Arc::new(Plain::new(&base.endpoint(), self.connect_timeout, self.http2, &tls)?);
        Ok(Client::over(base, transport, &self))
    }

    /// The client, over a tower service of your own: a stack of layers, a mock. It is cloned for each call and waited for
    /// until it is ready; [`CallInfo`] is in the request's extensions. A layer that holds a call back fails with [`NotSent`].
    ///
    /// # Errors
    ///
    /// As [`Client::new`].
    pub fn service<S, B>(self, service: S) -> Result<Client>
    where
        S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let base = Base::read(&self.uri)?;
        Ok(Client::over(base, Arc::new(Tower(service)), &self))
    }
}

impl Base {
    fn scheme(&self) -> Scheme {
        if self.https { Scheme::HTTPS } else { Scheme::HTTP }
    }

    /// The address itself.
    fn endpoint(&self) -> Endpoint {
        let host = self.authority.host();
        // A literal address of IPv6 stands in brackets.
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let own = if self.https { 443 } else { 80 };
        Endpoint::at(host, self.authority.port_u16().unwrap_or(own))
    }

    fn read(text: &str) -> Result<Self> {
        const EXPECTED: &str = "expected the address of a service, such as \"http://orders:8080\"";
        let parsed = text.parse::<Uri>();
        // Not even the address is repeated: it holds a password, or may hold one when nobody knows where its host is.
        if parsed.as_ref().ok().and_then(Uri::authority).map_or(text, Authority::as_str).contains('@') {
            return Err(Error::config(format!("found an address with credentials before an @, {EXPECTED}")));
        }
        let uri = parsed.map_err(|error| Error::config(format!("found {text:?}, {EXPECTED}: {error}")))?;
        let Some(authority) = uri.authority() else {
            return Err(Error::config(format!("found {text:?}, {EXPECTED}")));
        };
        // What stands behind the host, and is no port, would be taken for none.
        if authority.port().is_none() && authority.as_str() != authority.host() {
            return Err(Error::config(format!("found {text:?}, expected a port from 0 to 65535 behind the host")));
        }
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(Error::config(format!("found {text:?}, {EXPECTED}"))),
        };
        if uri.query().is_some() {
            return Err(Error::config(format!(
                "found a query in {text:?}, {EXPECTED}; a query comes from the arguments"
            )));
        }
        let path = uri.path().to_owned();
        Ok(Self { https, authority: authority.clone(), prefix: path.trim_end_matches('/').to_owned(), path })
    }
}

#[cfg(test)]
mod tests;
