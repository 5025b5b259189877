//! What is asked of a route beyond its handler: the keys after the path in `#[get("…", …)]`.

use std::time::Duration;

/// What is asked of a route beyond its handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RoutePolicy {
    /// How long the handler may take. Default: the server's own limit alone.
    pub timeout: Option<Duration>,
    /// How many requests of this route are served at once; one more is turned away as `bulkhead_full`. An rpc and the HTTP
    /// route of the same method share it. Default: as many as come.
    pub concurrency: Option<u32>,
    /// The largest body, in bytes. Default: the server's own limit alone.
    pub body_limit: Option<u64>,
    /// Whether a second request with the same content does no harm, so that a caller may try again. Default: what the HTTP
    /// method promises (RFC 9110 §9.2.2).
    pub idempotent: bool,
    /// Since when callers should use something else. Default: it is not deprecated.
    pub deprecated: Option<Deprecation>,
}

impl RoutePolicy {
    /// Nothing asked.
    #[must_use]
    pub const fn new() -> Self {
        Self { timeout: None, concurrency: None, body_limit: None, idempotent: false, deprecated: None }
    }

    /// How long the handler may take.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How many requests are served at once.
    #[must_use]
    pub const fn concurrency(mut self, requests: u32) -> Self {
        self.concurrency = Some(requests);
        self
    }

    /// The largest body, in bytes.
    #[must_use]
    pub const fn body_limit(mut self, bytes: u64) -> Self {
        self.body_limit = Some(bytes);
        self
    }

    /// A second request with the same content does no harm.
    #[must_use]
    pub const fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Callers should use something else.
    #[must_use]
    pub const fn deprecated(mut self, deprecation: Deprecation) -> Self {
        self.deprecated = Some(deprecation);
        self
    }
}

/// Since when a route is deprecated (RFC 9745), and when it will be gone (RFC 8594). In seconds since 1970, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deprecation {
    /// Since when callers should use something else; it may lie ahead.
    pub since: i64,
    /// When the route will be gone.
    pub sunset: Option<i64>,
}

impl Deprecation {
    /// Deprecated since this second.
    #[must_use]
    pub const fn since(since: i64) -> Self {
        Self { since, sunset: None }
    }

    /// Gone from this second on.
    #[must_use]
    pub const fn sunset(mut self, sunset: i64) -> Self {
        self.sunset = Some(sunset);
        self
    }
}
