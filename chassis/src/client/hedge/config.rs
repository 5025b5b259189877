//! `[clients.….hedge]`.

use crate::config::Duration;

/// Whether an idempotent call that takes long is sent a second time, to another endpoint; the first answer counts.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HedgeConfig {
    /// Whether calls are hedged. Off by default: it asks more of the destination.
    #[schemars(extend("x-reloadable" = true))]
    pub enabled: bool,
    /// The share of calls that are answered without a hedge: at 0.99 one call in a hundred is hedged. Default as Finagle's
    /// `idempotent(1 %)`.
    #[schemars(range(min = 0.5, max = 0.9999), extend("x-reloadable" = true))]
    pub percentile: f64,
    /// The shortest wait before a hedge. Default as Finagle's.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "1m", "x-reloadable" = true))]
    pub min_delay: Duration,
}

impl Default for HedgeConfig {
    fn default() -> Self {
        Self { enabled: false, percentile: 0.99, min_delay: Duration::from_millis(1) }
    }
}
