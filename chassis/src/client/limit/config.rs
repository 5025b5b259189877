//! `[clients.….limit]`.

/// How many calls to a destination may be under way at once: a bulkhead, so that one slow destination does not take
/// everything.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitConfig {
    /// How many calls are under way at once. Default as Envoy's `max_requests`.
    #[schemars(range(min = 1, max = 1_000_000), extend("x-unit" = "calls", "x-reloadable" = true))]
    pub concurrency: u32,
    /// How many calls wait for one of them to end; one more is `bulkhead_full` at once. They wait as long as their time lasts.
    /// Default as Envoy's `max_pending_requests`.
    #[schemars(range(max = 1_000_000), extend("x-unit" = "calls", "x-reloadable" = true))]
    pub queue: u32,
}

impl Default for LimitConfig {
    fn default() -> Self {
        Self { concurrency: 1024, queue: 1024 }
    }
}
