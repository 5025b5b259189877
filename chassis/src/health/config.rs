//! `[health]`: how checks are run when they do not say so themselves.

use crate::config::Duration;

/// How the scheduled checks are run, and when the built-in ones complain.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HealthConfig {
    /// How long a check rests between the end of one run and the start of the next; ±10 % jitter is added.
    /// A shorter interval finds a fault sooner and asks the dependency more often.
    /// Default as Dropwizard's check interval.
    #[schemars(extend("x-minimum" = "100ms", "x-maximum" = "1h"))]
    pub interval: Duration,

    /// How long one run of a check may take; a slower one counts as failed.
    /// Default as the timeout of a Kubernetes probe.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "1m"))]
    pub timeout: Duration,

    /// How many runs in a row must fail before a working check is down.
    /// Default as Dropwizard's failure attempts and Kubernetes' failure threshold.
    #[schemars(range(min = 1, max = 100), extend("x-unit" = "runs"))]
    pub failures_to_fall: u32,

    /// How many runs in a row must succeed before a check that is down works again.
    /// Default as Dropwizard's success attempts.
    #[schemars(range(min = 1, max = 100), extend("x-unit" = "runs"))]
    pub successes_to_rise: u32,

    /// How long the `panics` check stays degraded after the last panic.
    /// Chosen: longer than the usual one-minute scrape, so that no panic goes unseen.
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "24h"))]
    pub panic_window: Duration,

    /// How late the event loop may wake a timer before the `event_loop` check is degraded.
    /// Blocking work in async code is the usual reason for lateness.
    /// Chosen: a hundred times the timer's own grain of 1 ms, and what a person begins to notice.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "1m"))]
    pub event_loop_lag: Duration,

    /// The share of requests, over the last minute and at least five of them, that must fail by the service's own doing before
    /// the `responses` check is degraded: a 5xx, or a gRPC code of that kind. Probes, refusals while stopping and deadlines
    /// that the caller set do not count. The check never makes the instance unready.
    /// Chosen: half, where a fault of single routes begins to be one of the service.
    #[schemars(range(min = 0.01, max = 1.0), extend("x-unit" = "share"))]
    pub failing_share: f64,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            failures_to_fall: 3,
            successes_to_rise: 2,
            panic_window: Duration::from_secs(5 * 60),
            event_loop_lag: Duration::from_millis(100),
            failing_share: 0.5,
        }
    }
}
