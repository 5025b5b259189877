//! The knobs of the two listeners.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{ByteSize, Duration, Secret};

/// The main port: HTTP/1.1, HTTP/2 and gRPC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Where to listen: `host:port`, `[ipv6]:port`, or `unix:/path/to/socket`. Port 0 takes a free port.
    ///
    /// `[::]` stands for all addresses, of IPv6 and of IPv4, and for those of IPv4 alone where IPv6 is off. The dev profile
    /// listens on 127.0.0.1 only.
    pub address: String,
    /// How long a caller may take to send a whole request head, and a new connection to send anything at all.
    ///
    /// Default as in Go's and nginx's practice for public servers; slow clients on mobile networks need a second or two.
    #[schemars(extend("x-minimum" = "10ms", "x-maximum" = "10m"))]
    pub header_read_timeout: Duration,
    /// How long a connection without a request is kept.
    ///
    /// Longer than the 60 s of common load balancers, so that the balancer closes first and no request meets a closing connection.
    #[schemars(extend("x-minimum" = "100ms", "x-maximum" = "24h"))]
    pub idle_timeout: Duration,
    /// How long a caller may stop reading while there is something to send to it.
    ///
    /// Default as nginx's `send_timeout`, halved: what a stalled reader holds is the server's memory.
    #[schemars(extend("x-minimum" = "100ms", "x-maximum" = "1h"))]
    pub write_timeout: Duration,
    /// How long a request may take until its response head, unless its route or its caller says less.
    ///
    /// A streamed body may go on. gRPC calls are limited by their callers only, as gRPC has it. Chosen: longer waits are better polled.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "1h"))]
    pub request_timeout: Duration,
    /// The largest request body, in bytes. gRPC messages have tonic's own limit of 4 MiB each.
    ///
    /// Default as nginx's `client_max_body_size`.
    #[schemars(extend("x-minimum" = "0B", "x-maximum" = "16GiB"))]
    pub body_limit: ByteSize,
    /// How many connections are served at once, upgraded ones among them. At the limit no more are accepted; callers wait in
    /// the kernel's queue.
    ///
    /// Fewer where the limit of open files has no room for them: a quarter of it, at most 1,280, is left to calls out, the
    /// operators' port and files, and the start says so. Chosen: each costs about 20 KiB at rest, so the default stays under
    /// 200 MiB.
    #[schemars(range(min = 1, max = 1_000_000), extend("x-unit" = "connections"))]
    pub max_connections: u32,
    /// Whether small segments are sent at once (`TCP_NODELAY`). Off trades latency for fewer packets.
    pub tcp_nodelay: bool,
    /// HTTP/1.1 alone.
    pub http1: Http1Config,
    /// HTTP/2 alone.
    pub http2: Http2Config,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            address: "[::]:8080".into(),
            header_read_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(30),
            body_limit: ByteSize::mib(1),
            max_connections: 10_000,
            tcp_nodelay: true,
            http1: Http1Config::default(),
            http2: Http2Config::default(),
        }
    }
}

/// Limits of HTTP/1.1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http1Config {
    /// How many header lines a request may have; more is 431. hyper's own default.
    #[schemars(range(min = 8, max = 4096), extend("x-unit" = "headers"))]
    pub max_headers: u32,
    /// How large a request head may be; larger is 431.
    ///
    /// hyper would allow about 400 KiB; 64 KiB is far above what browsers, proxies and tokens need.
    #[schemars(extend("x-minimum" = "8KiB", "x-maximum" = "4MiB"))]
    pub max_head_size: ByteSize,
}

impl Default for Http1Config {
    fn default() -> Self {
        Self { max_headers: 100, max_head_size: ByteSize::kib(64) }
    }
}

/// Limits of HTTP/2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http2Config {
    /// How many streams one connection may have open (`SETTINGS_MAX_CONCURRENT_STREAMS`). hyper's own default.
    #[schemars(range(min = 1, max = 100_000), extend("x-unit" = "streams"))]
    pub max_concurrent_streams: u32,
    /// How large the headers of one request may be in all (`SETTINGS_MAX_HEADER_LIST_SIZE`). hyper's own default.
    #[schemars(extend("x-minimum" = "4KiB", "x-maximum" = "1MiB"))]
    pub max_header_list_size: ByteSize,
    /// How many streams the caller may have reset before they were accepted, until the connection is ended (CVE-2023-44487).
    ///
    /// Callers whose calls time out reset all their streams at once, so this lies far above `max_concurrent_streams`.
    #[schemars(range(min = 1, max = 10_000), extend("x-unit" = "streams"))]
    pub max_pending_accept_reset_streams: u32,
    /// How many streams the caller may make this side reset, until the connection is ended (CVE-2025-8671). They are counted
    /// over the whole life of the connection.
    ///
    /// A caller does so too that sends on after an early answer, or opens more streams than it may.
    #[schemars(range(min = 1, max = 100_000), extend("x-unit" = "streams"))]
    pub max_local_error_reset_streams: u32,
    /// How often the other side is asked whether it is still there (PING). `0s` never asks.
    #[schemars(extend("x-minimum" = "0s", "x-maximum" = "24h"))]
    pub keep_alive_interval: Duration,
    /// How long the answer to that may take. gRPC's default for servers.
    #[schemars(extend("x-minimum" = "100ms", "x-maximum" = "1h"))]
    pub keep_alive_timeout: Duration,
    /// How much may wait to be sent on one stream before its handler is slowed down.
    #[schemars(extend("x-minimum" = "4KiB", "x-maximum" = "64MiB"))]
    pub max_send_buffer: ByteSize,
}

impl Default for Http2Config {
    fn default() -> Self {
        Self {
            max_concurrent_streams: 200,
            max_header_list_size: ByteSize::kib(16),
            // Ten times the streams that time out at once. h2's own 20 would end a connection, and the patient calls on it, for
            // the timeouts of others; a flood of resets meets this one as well.
            max_pending_accept_reset_streams: 2000,
            // h2's own 1024 is soon reached by a connection that lives for days.
            max_local_error_reset_streams: 10_000,
            // gRPC servers ask after two hours; a NAT forgets within minutes.
            keep_alive_interval: Duration::from_secs(60),
            keep_alive_timeout: Duration::from_secs(20),
            // Chosen: a tenth of hyper's, since a slow reader may have many streams.
            max_send_buffer: ByteSize::kib(64),
        }
    }
}

/// The operators' port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// Whether there is an operators' port at all.
    pub enabled: bool,
    /// Where it listens, written as `http.address`. The dev profile listens on 127.0.0.1 only.
    pub address: String,
    /// The bearer token that opens `/admin/…` to callers that are not on loopback. Without one they are refused.
    pub token: Option<Secret<String>>,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { enabled: true, address: "[::]:8081".into(), token: None }
    }
}
