//! `[clients.<name>]`: the destinations of calls out.

use super::{
    balance::config::BalanceConfig,
    breaker::config::BreakerConfig,
    hedge::config::HedgeConfig,
    limit::config::LimitConfig,
    propagate::{Propagated, Propagation},
    retry::config::RetryConfig,
};
use crate::{
    config::{ByteSize, Duration},
    tls::TlsConfig, // floor: settings are values, and lie below
};

/// A destination of calls out.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClientConfig {
    /// Where its instances are found: `consul://inventory`, `dns://inventory.internal:8080`, `static://10.0.0.1:8080`,
    /// `memory://inventory`, `http://inventory:8080`. When unset, the registry of `[discovery]` is asked for the client's name.
    pub target: Option<String>,
    /// How many hosts have a stack at once. Set, this section is a template for addresses that are known only at run time, such as
    /// callbacks: it has no target, and `Chassis::host_clients` makes clients by it. The least recently used host is dropped for
    /// a new one. Propagates only the deadline unless `propagate` says more.
    #[schemars(range(min = 1, max = 10_000), extend("x-unit" = "hosts", "x-reloadable" = true))]
    pub hosts: Option<u32>,
    /// How long a call may take, all attempts and the answer included, unless it says otherwise. Default as Envoy's routes.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "1h", "x-reloadable" = true))]
    pub timeout: Duration,
    /// How long one attempt may take until the head of its answer; only the call's time limits it when unset.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "1h", "x-reloadable" = true))]
    pub attempt_timeout: Option<Duration>,
    /// The protocol of HTTP calls; gRPC is always HTTP/2.
    pub protocol: HttpProtocol,
    /// The largest answer that is read into memory. Default as gRPC's clients.
    #[schemars(extend("x-minimum" = "1KiB", "x-maximum" = "1GiB"))]
    pub answer_limit: ByteSize,
    /// gRPC methods, `inventory.v1.Inventory/Reserve`, of which a second call does no harm; `*` for all. HTTP calls say it by
    /// their method, or where they are made.
    #[schemars(extend("x-reloadable" = true))]
    pub idempotent: Vec<String>,
    /// What travels with a call to this destination. Everything when unset: trace context, baggage, what is left of the time, the
    /// name of this service, and the priority of the request being served. For a third party name what it may know, for example
    /// `["deadline"]`, or `[]`: trace ids and baggage may identify a person (W3C Baggage, "Privacy").
    #[schemars(extend("x-reloadable" = true))]
    pub propagate: Option<Vec<Propagated>>,
    /// Whether this instance is of no use without the destination. If it is, it is not ready while no endpoint is available;
    /// otherwise it is only degraded.
    pub critical: bool,
    /// The connections.
    pub pool: PoolConfig,
    /// How the destination proves who it is, and how this instance does.
    pub tls: TlsConfig,
    /// How many calls may be under way.
    pub limit: LimitConfig,
    /// How calls are spread.
    pub balance: BalanceConfig,
    /// When an endpoint gets no more calls.
    pub breaker: BreakerConfig,
    /// When a call is tried again.
    pub retry: RetryConfig,
    /// When a call is sent twice.
    pub hedge: HedgeConfig,
}

/// The protocol of HTTP calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HttpProtocol {
    /// HTTP/1.1, a connection for each call under way.
    #[default]
    Http1,
    /// HTTP/2, many calls on one connection; in cleartext with prior knowledge (RFC 9113, section 3.3).
    Http2,
}

/// The connections to each endpoint.
///
/// HTTP/2 needs one for as many calls as the endpoint allows at once (`SETTINGS_MAX_CONCURRENT_STREAMS`), and for at most
/// `connection_window / stream_window` calls. HTTP/1.1 needs one for each call under way. So `limit.concurrency` is their
/// limit: a second one would only make calls wait that the first has let through.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PoolConfig {
    /// How long a connection may take to be made, TLS included. Default as Envoy's clusters.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "5m"))]
    pub connect_timeout: Duration,
    /// How many idle connections to each endpoint are kept. Default as Go's `net/http` keeps in all.
    #[schemars(range(max = 100_000), extend("x-unit" = "connections"))]
    pub max_idle: u32,
    /// How long an idle connection is kept: less than the 60 s after which common load balancers close theirs.
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "1h"))]
    pub idle_timeout: Duration,
    /// How long the other end of an HTTP/2 connection may be silent while calls are under way until it is asked by a PING
    /// whether it is still there; idle connections are asked by TCP, HTTP/1.1 too. Default: the shortest that gRPC's own
    /// servers take without closing the connection with `too_many_pings` (gRFC A8). A network that swallows what is sent is
    /// noticed sooner, by `keep_alive_timeout`.
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "1h"))]
    pub keep_alive_interval: Duration,
    /// How long the answer to that may take, and TCP's own acknowledgement of what was sent (gRFC A18), before the connection is
    /// given up and its calls fail. Default as gRPC's.
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "5m"))]
    pub keep_alive_timeout: Duration,
    /// How much of one answer over HTTP/2 is received before it is read. Default as hyper's.
    #[schemars(extend("x-minimum" = "64KiB", "x-maximum" = "1GiB"))]
    pub stream_window: ByteSize,
    /// How much of all answers on one HTTP/2 connection is received before they are read, at least `stream_window`. A connection
    /// takes at most `connection_window / stream_window` calls at once, 512 with the defaults, so that answers that are not read
    /// never stop the others; further calls have another connection. Default as Go's `net/http`.
    #[schemars(extend("x-minimum" = "64KiB", "x-maximum" = "1GiB"))]
    pub connection_window: ByteSize,
    /// How many headers an answer over HTTP/1.1 may have, and how many trailers. One with more fails its call, is not tried
    /// again, and does not count against its endpoint. Chosen: ten times what common servers and proxies take of a request.
    #[schemars(range(min = 1, max = 32_768), extend("x-unit" = "headers"))]
    pub max_headers: u32,
    /// How large the head of an answer may be: status line and headers over HTTP/1.1, the list of fields over HTTP/2
    /// (`SETTINGS_MAX_HEADER_LIST_SIZE`). A larger one fails its call, is not tried again, and does not count against its
    /// endpoint. Chosen: what hyper takes over HTTP/1.1, rounded up.
    #[schemars(extend("x-minimum" = "8KiB", "x-maximum" = "16MiB"))]
    pub max_head_size: ByteSize,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            target: None,
            hosts: None,
            timeout: Duration::from_secs(15),
            attempt_timeout: None,
            protocol: HttpProtocol::Http1,
            answer_limit: super::DEFAULT_ANSWER_LIMIT,
            idempotent: Vec::new(),
            propagate: None,
            critical: false,
            pool: PoolConfig::default(),
            tls: TlsConfig::default(),
            limit: LimitConfig::default(),
            balance: BalanceConfig::default(),
            breaker: BreakerConfig::default(),
            retry: RetryConfig::default(),
            hedge: HedgeConfig::default(),
        }
    }
}

impl ClientConfig {
    /// What travels with a call.
    pub(crate) fn propagation(&self) -> Propagation {
        match (&self.propagate, self.hosts) {
            (Some(list), _) => Propagation::of(list),
            // Nothing is known of who is called.
            (None, Some(_)) => Propagation::STRANGER,
            (None, None) => Propagation::ALL,
        }
    }
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            max_idle: 100,
            idle_timeout: Duration::from_secs(50),
            keep_alive_interval: Duration::from_secs(300),
            keep_alive_timeout: Duration::from_secs(20),
            stream_window: ByteSize::mib(2),
            connection_window: ByteSize::mib(1024),
            max_headers: 1_000,
            max_head_size: ByteSize::kib(512),
        }
    }
}
