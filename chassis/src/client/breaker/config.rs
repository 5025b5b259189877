//! `[clients.….breaker]`.

use crate::config::Duration;

/// When an endpoint that fails gets no more calls, and how it gets them back.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerConfig {
    /// What the breaker does.
    #[schemars(extend("x-reloadable" = true))]
    pub mode: BreakerMode,
    /// The time over which the rates are taken. Default as Linkerd's success-rate window.
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "10m", "x-reloadable" = true))]
    pub window: Duration,
    /// How many calls the window must hold before a rate counts. Default as Finagle's and Linkerd's.
    #[schemars(range(min = 1, max = 1_000_000), extend("x-unit" = "calls", "x-reloadable" = true))]
    pub minimum_calls: u32,
    /// The share of failed calls at which it opens; 0 turns this off. Default as Resilience4j's.
    #[schemars(range(min = 0.0, max = 1.0), extend("x-reloadable" = true))]
    pub failure_rate: f64,
    /// How long a call may take before it counts as slow; slow calls are not looked at when unset.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "10m", "x-reloadable" = true))]
    pub slow_call: Option<Duration>,
    /// The share of slow calls at which it opens; 0 turns this off. Default as Resilience4j's, all of them.
    #[schemars(range(min = 0.0, max = 1.0), extend("x-reloadable" = true))]
    pub slow_rate: f64,
    /// How many calls in a row must fail for it to open; 0 turns this off. Default as Linkerd's.
    #[schemars(range(max = 1_000_000), extend("x-unit" = "calls", "x-reloadable" = true))]
    pub consecutive_failures: u32,
    /// How long it stays open the first time. Default as Linkerd's.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "1h", "x-reloadable" = true))]
    pub open_wait: Duration,
    /// How long it stays open at most; the wait doubles each time a probe fails. Default as Linkerd's.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "1h", "x-reloadable" = true))]
    pub max_open_wait: Duration,
    /// How much longer chance may make a wait, as a share of it, so that callers do not all come back at once. Default
    /// as Linkerd's.
    #[schemars(range(min = 0.0, max = 1.0), extend("x-reloadable" = true))]
    pub jitter: f64,
    /// How many calls it lets through at once to see whether the endpoint has recovered; all must go well for it to
    /// close. Chosen: one good answer of an endpoint that flaps says little (Linkerd has 1, Resilience4j 10).
    #[schemars(range(min = 1, max = 1000), extend("x-unit" = "calls", "x-reloadable" = true))]
    pub probes: u32,
}

/// What a breaker does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerMode {
    /// It opens and closes by what it sees.
    #[default]
    Enforcing,
    /// It counts, and tells when it would have opened, but lets every call through.
    MetricsOnly,
    /// It does nothing.
    Disabled,
    /// It lets no call through.
    ForcedOpen,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            mode: BreakerMode::Enforcing,
            window: Duration::from_secs(10),
            minimum_calls: 5,
            failure_rate: 0.5,
            slow_call: None,
            slow_rate: 1.0,
            consecutive_failures: 7,
            open_wait: Duration::from_secs(1),
            max_open_wait: Duration::from_secs(60),
            jitter: 0.5,
            probes: 3,
        }
    }
}
