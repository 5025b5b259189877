//! How long values are kept. No section of its own: a service that has a cache puts this into its own settings.

use crate::config::Duration;

/// How long values are kept.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// How long a value is served without asking again. Default 1 min (chosen).
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "7d"))]
    pub ttl: Duration,
    /// The part of `ttl` by which it is longer or shorter by chance, so that values that came together do not end together.
    /// Default as go-zero's cache.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub jitter: f64,
    /// How long after that an old value is still served when the new one cannot be had (RFC 5861, section 4); `0s` never.
    /// Default 5 min (chosen: about as long as it takes to notice an outage and end it).
    #[schemars(extend("x-maximum" = "7d"))]
    pub stale_if_error: Duration,
    /// How long it is remembered that there is no value; not at all when unset.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "1h"))]
    pub negative_ttl: Option<Duration>,
    /// How many values are kept; the seldom used ones go first. Default 10,000 (chosen). A cache with a size counts that instead.
    #[schemars(range(min = 1), extend("x-unit" = "values"))]
    pub entries: u64,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(60),
            jitter: 0.05,
            stale_if_error: Duration::from_secs(300),
            negative_ttl: None,
            entries: 10_000,
        }
    }
}
