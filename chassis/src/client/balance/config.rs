//! `[clients.….balance]`.

use crate::config::Duration;

/// How calls are spread over the endpoints of a destination.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BalanceConfig {
    /// How fast old response times are forgotten. Default as Finagle's and Linkerd's.
    #[schemars(extend("x-minimum" = "10ms", "x-maximum" = "10m", "x-reloadable" = true))]
    pub decay: Duration,
    /// The response time that an endpoint is taken to have before its first answer. Default as Linkerd's.
    #[schemars(extend("x-minimum" = "1us", "x-maximum" = "1m", "x-reloadable" = true))]
    pub default_rtt: Duration,
    /// The response time that a failed call counts as, so that an endpoint that fails fast attracts no calls. Default as
    /// Linkerd's load biaser.
    #[schemars(extend("x-minimum" = "0s", "x-maximum" = "5m", "x-reloadable" = true))]
    pub failure_penalty: Duration,
    /// How long a new endpoint takes to get its full share; 0 gives it at once. Default as Envoy's, off.
    #[schemars(extend("x-minimum" = "0s", "x-maximum" = "1h", "x-reloadable" = true))]
    pub slow_start: Duration,
    /// Below this share of available endpoints those that fail are used again while none of the available ones has room, so
    /// that the few that are left do not carry everything; 0 turns this off. An endpoint has room while it answers in less
    /// than three times its quiet response time and has refused nothing for a second. Default as Envoy's panic threshold.
    #[schemars(range(min = 0.0, max = 1.0), extend("x-reloadable" = true))]
    pub panic_threshold: f64,
    /// Whether endpoints in `discovery.zone` are preferred.
    #[schemars(extend("x-reloadable" = true))]
    pub prefer_zone: bool,
}

impl Default for BalanceConfig {
    fn default() -> Self {
        Self {
            decay: Duration::from_secs(10),
            default_rtt: Duration::from_millis(30),
            failure_penalty: Duration::from_secs(5),
            slow_start: Duration::from_secs(0),
            panic_threshold: 0.5,
            prefer_zone: true,
        }
    }
}
