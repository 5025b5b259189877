//! `[clients.….retry]`.

use crate::config::Duration;

/// When a call is tried again. Only calls that are idempotent, or that no handler has seen.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetryConfig {
    /// How often a call is tried in all; 1 turns retries off. Default as the SRE book's.
    #[schemars(range(min = 1, max = 5), extend("x-unit" = "attempts", "x-reloadable" = true))]
    pub attempts: u32,
    /// The longest wait before the first retry; the wait is random between nothing and this (full jitter), and doubles. Default
    /// as Envoy's.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "1m", "x-reloadable" = true))]
    pub backoff: Duration,
    /// The longest wait between attempts. Default as Envoy's, ten times the first.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "10m", "x-reloadable" = true))]
    pub max_backoff: Duration,
    /// How many retries and hedges a destination may get for each call, on average. Default as Finagle's and Linkerd's budget.
    #[schemars(range(min = 0.0, max = 10.0), extend("x-reloadable" = true))]
    pub budget_ratio: f64,
    /// How many retries and hedges a second are allowed whatever the ratio says, so that a client that seldom calls can retry.
    /// Default as Finagle's and Linkerd's.
    #[schemars(range(max = 10_000), extend("x-unit" = "retries/s", "x-reloadable" = true))]
    pub budget_min: u32,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            attempts: 3,
            backoff: Duration::from_millis(25),
            max_backoff: Duration::from_millis(250),
            budget_ratio: 0.2,
            budget_min: 10,
        }
    }
}
