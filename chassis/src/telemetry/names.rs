//! Every metric and attribute name, once.
//!
//! An instrument is made from its entry here, so its name, unit and help cannot differ from the documentation:
//! `docs/generated/metrics.md` is [`reference_markdown`] of the same table, and a test compares the table with a live
//! scrape. Names are the OpenTelemetry semantic conventions' (1.42) where these have one, else they start with `chassis.`.

use std::{borrow::Cow, fmt::Write as _};

/// What an instrument measures, as OpenTelemetry names the kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only grows; a Prometheus counter, `_total` in the scrape.
    Counter,
    /// Goes up and down and may be added up over series; a Prometheus gauge.
    UpDownCounter,
    /// A value of the moment that makes no sense added up; a Prometheus gauge.
    Gauge,
    /// A distribution in buckets.
    Histogram,
}

/// How firmly a name stands: the conventions' own word for it, `Development` for names of the chassis before 1.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stability {
    /// Does not change.
    Stable,
    /// About to become stable.
    ReleaseCandidate,
    /// May change with a minor version; the changelog says so.
    Development,
}

/// One metric: all that its instrument and its line in the documentation need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MetricDoc {
    /// The OpenTelemetry name.
    pub(crate) name: &'static str,
    /// What it measures.
    pub(crate) kind: Kind,
    /// The unit in UCUM; an annotation in braces only names what is counted.
    pub(crate) unit: &'static str,
    /// The attributes its series differ by.
    pub(crate) attributes: &'static [&'static str],
    /// One sentence, the `# HELP` line.
    pub(crate) help: &'static str,
    /// How firmly the name stands.
    pub(crate) stability: Stability,
}

impl MetricDoc {
    /// The name of the family in a Prometheus scrape: dots become underscores, the unit and `_total` are appended.
    pub(crate) fn scrape_name(&self) -> String {
        let unit = suffix_of_unit(self.unit).map_or(String::new(), |unit| format!("_{unit}"));
        let total = if self.kind == Kind::Counter { "_total" } else { "" };
        let name = format!("{}{unit}{total}", self.name.replace('.', "_"));
        match self.kind {
            Kind::Gauge | Kind::UpDownCounter => gauge_name(&name).unwrap_or(name),
            Kind::Counter | Kind::Histogram => name,
        }
    }
}

/// What the scrape appends for a unit in UCUM, as OpenTelemetry's compatibility with Prometheus has it: `s` is `seconds`,
/// `By/s` is `bytes_per_second`. `None` for annotations such as `{request}`, and for units that Prometheus has no name for.
pub(crate) fn suffix_of_unit(unit: &str) -> Option<Cow<'static, str>> {
    if let Some(name) = plural_of_unit(unit) {
        return Some(name.into());
    }
    let (of, per) = unit.split_once('/')?;
    let per = match per {
        "s" => "second",
        "m" => "minute",
        "h" => "hour",
        "d" => "day",
        "w" => "week",
        "mo" => "month",
        "y" => "year",
        _ => return None,
    };
    // A time or a number by a time says no more than the time.
    let of = plural_of_unit(of).filter(|_| !matches!(of, "1" | "d" | "h" | "min" | "s" | "ms" | "us" | "ns"));
    Some(of.map_or_else(|| format!("per_{per}"), |of| format!("{of}_per_{per}")).into())
}

fn plural_of_unit(unit: &str) -> Option<&'static str> {
    Some(match unit {
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" | "B" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        "TiBy" => "tibibytes",
        "KBy" | "KB" => "kilobytes",
        "MBy" | "MB" => "megabytes",
        "GBy" | "GB" => "gigabytes",
        "TBy" | "TB" => "terabytes",
        "m" => "meters",
        "V" => "volts",
        "A" => "amperes",
        "J" => "joules",
        "W" => "watts",
        "g" => "grams",
        "Cel" => "celsius",
        "Hz" => "hertz",
        "1" => "ratio",
        "%" => "percent",
        _ => return None,
    })
}

/// The name a gauge gets in the scrape when its own ends in `_count`, which Prometheus keeps for histograms:
/// `process_thread_count` becomes `process_threads`.
pub(crate) fn gauge_name(name: &str) -> Option<String> {
    name.strip_suffix("_count").map(|stem| format!("{stem}s"))
}

/// The route of every request that no route matched: one constant, so that random paths add no series.
pub(crate) const UNMATCHED_ROUTE: &str = "unmatched";

/// The method of every request whose method is unknown, HTTP or RPC, as the conventions have it.
pub(crate) const OTHER: &str = "_OTHER";

/// Boundaries of the histograms in seconds, as the HTTP and RPC conventions advise them.
pub(crate) const SECONDS_BUCKETS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// The names of attributes.
pub(crate) mod attribute {
    /// The HTTP method; `_OTHER` when unknown.
    pub(crate) const HTTP_REQUEST_METHOD: &str = "http.request.method";
    /// `http` or `https`.
    pub(crate) const URL_SCHEME: &str = "url.scheme";
    /// The route's template, never the path.
    pub(crate) const HTTP_ROUTE: &str = "http.route";
    /// The HTTP status.
    pub(crate) const HTTP_RESPONSE_STATUS_CODE: &str = "http.response.status_code";
    /// Why it failed: a word of the vocabulary of causes, a problem's code, or the status; absent on success.
    pub(crate) const ERROR_TYPE: &str = "error.type";
    /// `1.0`, `1.1` or `2`.
    pub(crate) const NETWORK_PROTOCOL_VERSION: &str = "network.protocol.version";
    /// The request's path, on spans only.
    pub(crate) const URL_PATH: &str = "url.path";
    /// The caller's address, on spans only.
    pub(crate) const CLIENT_ADDRESS: &str = "client.address";
    /// The caller's `user-agent` header, on spans only.
    pub(crate) const USER_AGENT_ORIGINAL: &str = "user_agent.original";
    /// The kind of RPC: `grpc`.
    pub(crate) const RPC_SYSTEM_NAME: &str = "rpc.system.name";
    /// `package.Service/Method`; `_OTHER` when unknown.
    pub(crate) const RPC_METHOD: &str = "rpc.method";
    /// The gRPC code's name: `OK`, `NOT_FOUND`.
    pub(crate) const RPC_RESPONSE_STATUS_CODE: &str = "rpc.response.status_code";
    /// `user` or `system`.
    pub(crate) const CPU_MODE: &str = "cpu.mode";
    /// The word of a refusal.
    pub(crate) const CAUSE: &str = "cause";
    /// The handler with its type: `orders::Orders::place`.
    pub(crate) const CODE_FUNCTION_NAME: &str = "code.function.name";
    /// The name of a health check.
    pub(crate) const CHECK: &str = "check";
    /// The status of a health check: `up`, `degraded`, `down`, `unknown`.
    pub(crate) const STATUS: &str = "status";
    /// The name of a leadership.
    pub(crate) const LEADER_NAME: &str = "name";
    /// The name of a background task.
    pub(crate) const TASK: &str = "task";
    /// How something ended: a reload `applied` or `rejected`; a registration's call `succeeded` or `failed`; a call out, a hedge.
    pub(crate) const OUTCOME: &str = "outcome";
    /// Why: spans dropped as `queue_full` or `export_failed`, a call tried again after an outcome.
    pub(crate) const REASON: &str = "reason";
    /// The destination of a call out, its name under `[clients]`.
    pub(crate) const DESTINATION: &str = "destination";
    /// What is called: the HTTP method with the path's template, or the gRPC method.
    pub(crate) const METHOD: &str = "method";
    /// The state of an endpoint or of its breaker.
    pub(crate) const STATE: &str = "state";
    /// The destination of a call out, as the conventions name it. For a request served, the name in its `host`, on spans only.
    pub(crate) const SERVER_ADDRESS: &str = "server.address";
    /// The endpoint's port; absent beyond the sixteenth of a destination. For a request served, the port in its `host`.
    pub(crate) const SERVER_PORT: &str = "server.port";
    /// The path's template, on spans only.
    pub(crate) const URL_TEMPLATE: &str = "url.template";
    /// The address that was asked, without the query, on spans only.
    pub(crate) const URL_FULL: &str = "url.full";
    /// The endpoint, on spans only.
    pub(crate) const NETWORK_PEER_ADDRESS: &str = "network.peer.address";
    /// The endpoint's port, on spans only.
    pub(crate) const NETWORK_PEER_PORT: &str = "network.peer.port";
    /// How many times the request was sent before, on spans only.
    pub(crate) const HTTP_REQUEST_RESEND_COUNT: &str = "http.request.resend_count";
    /// The destination of a call out, on spans only.
    pub(crate) const CLIENT_DESTINATION: &str = "chassis.client.destination";
    /// What a call out came to, on spans only.
    pub(crate) const CLIENT_OUTCOME: &str = "chassis.client.outcome";
    /// How many attempts a call out took, on spans only.
    pub(crate) const CLIENT_ATTEMPTS: &str = "chassis.client.attempts";
    /// How many attempts of the same gRPC call were made before, on spans only (gRFC A72).
    pub(crate) const PREVIOUS_RPC_ATTEMPTS: &str = "previous-rpc-attempts";
    /// The listener: `http` (the main port) or `admin`.
    pub(crate) const LISTENER: &str = "listener";
    /// The number of a runtime worker, from 0.
    pub(crate) const WORKER: &str = "worker";
    /// The kind of a further attempt: `retry` or `hedge`.
    pub(crate) const ATTEMPT: &str = "attempt";
    /// The name of an instrument.
    pub(crate) const INSTRUMENT: &str = "instrument";
    /// The service's version.
    pub(crate) const VERSION: &str = "version";
    /// Which stream of lines.
    pub(crate) const STREAM: &str = "stream";
    /// The commit the service was built from.
    pub(crate) const GIT_COMMIT: &str = "git_commit";
}

/// Declares the metrics, one const each, and the table of all.
macro_rules! metrics {
    ($($id:ident $name:literal $kind:ident $unit:literal [$($attribute:ident)*] $stability:ident $help:literal)*) => {
        $(
            #[doc = $help]
            pub(crate) const $id: MetricDoc = MetricDoc {
                name: $name,
                kind: Kind::$kind,
                unit: $unit,
                attributes: &[$(attribute::$attribute),*],
                help: $help,
                stability: Stability::$stability,
            };
        )*

        /// Every metric of the chassis, in the order of the documentation.
        pub(crate) const METRICS: &[MetricDoc] = &[$($id),*];
    };
}

metrics! {
    HTTP_SERVER_REQUEST_DURATION "http.server.request.duration" Histogram "s"
        [HTTP_REQUEST_METHOD URL_SCHEME HTTP_ROUTE HTTP_RESPONSE_STATUS_CODE ERROR_TYPE NETWORK_PROTOCOL_VERSION]
        Stable "Duration of HTTP server requests, rejections included."
    HTTP_SERVER_ACTIVE_REQUESTS "http.server.active_requests" UpDownCounter "{request}"
        [HTTP_REQUEST_METHOD URL_SCHEME]
        Development "Number of HTTP server requests in flight."
    RPC_SERVER_CALL_DURATION "rpc.server.call.duration" Histogram "s"
        [RPC_SYSTEM_NAME RPC_METHOD RPC_RESPONSE_STATUS_CODE ERROR_TYPE]
        ReleaseCandidate "Duration of inbound RPC calls, streams to their end."

    HTTP_CLIENT_REQUEST_DURATION "http.client.request.duration" Histogram "s"
        [HTTP_REQUEST_METHOD SERVER_ADDRESS SERVER_PORT HTTP_RESPONSE_STATUS_CODE ERROR_TYPE NETWORK_PROTOCOL_VERSION]
        Stable "Duration of single attempts of HTTP calls out, to the head of the answer."
    RPC_CLIENT_CALL_DURATION "rpc.client.call.duration" Histogram "s"
        [RPC_SYSTEM_NAME RPC_METHOD SERVER_ADDRESS SERVER_PORT RPC_RESPONSE_STATUS_CODE ERROR_TYPE]
        ReleaseCandidate "Duration of single attempts of gRPC calls out, streams to their end."
    CLIENT_CALL_DURATION "chassis.client.call.duration" Histogram "s" [DESTINATION METHOD OUTCOME]
        Development "What callers waited for a call out: all attempts, the waits between, and the answer to its end."
    CLIENT_ACTIVE "chassis.client.active" UpDownCounter "{call}" [DESTINATION]
        Development "Calls out under way."
    CLIENT_QUEUED "chassis.client.queued" UpDownCounter "{call}" [DESTINATION]
        Development "Calls out that wait for the concurrency limit of their destination."
    CLIENT_REFUSED "chassis.client.refused" Counter "{call}" [DESTINATION CAUSE]
        Development "Calls out that were held back on this side, by the word of the cause."
    CLIENT_RETRIES "chassis.client.retries" Counter "{attempt}" [DESTINATION REASON]
        Development "Attempts sent again, by the outcome of the one before."
    CLIENT_RETRIES_HELD_BACK "chassis.client.retries.held_back" Counter "{attempt}" [DESTINATION CAUSE]
        Development "Retries that were decided on and not sent, by what held them back; cancelled when the call was given up."
    CLIENT_RETRY_BUDGET_EXHAUSTED "chassis.client.retry.budget_exhausted" Counter "{attempt}" [DESTINATION ATTEMPT]
        Development "Attempts (retry, hedge) that were not made because the budget of the destination was used up."
    CLIENT_HEDGES "chassis.client.hedges" Counter "{attempt}" [DESTINATION OUTCOME]
        Development "Second attempts while the first was under way: won and lost were sent, held_back were not."
    CLIENT_ENDPOINTS "chassis.client.endpoints" Gauge "{endpoint}" [DESTINATION STATE]
        Development "Endpoints of each destination by the state of their breaker; unreachable when the last attempt found no connection."
    CLIENT_BREAKER_TRANSITIONS "chassis.client.breaker.transitions" Counter "{transition}" [DESTINATION STATE]
        Development "Changes of circuit breakers, by the state they changed to."
    CLIENT_BREAKER_FORCED "chassis.client.breaker.forced" Gauge "s" [DESTINATION]
        Development "For how long the breaker mode that an operator has set still holds, the longest of a destination; 0 without one."
    CLIENT_FALLBACKS "chassis.client.fallbacks" Counter "{call}" [DESTINATION METHOD CAUSE]
        Development "Calls out that failed and were answered by the fallback of a typed client, by the word of the failure."
    DISCOVERY_STALE "chassis.discovery.stale" Gauge "" [DESTINATION]
        Development "1 while the endpoints of a destination are the last known because their source is away, else 0."

    REJECTIONS "chassis.rejections" Counter "{request}" [CAUSE]
        Development "Requests refused or failed by the chassis, by the word it gave as the reason."
    PANICS "chassis.panics" Counter "{panic}" []
        Development "Panics of the process, caught or not: of handlers, tasks, threads, callbacks and failure observers."
    BULKHEAD_IN_USE "chassis.bulkhead.in_use" UpDownCounter "{request}" [CODE_FUNCTION_NAME]
        Development "Requests that a handler with a concurrency limit serves now, answers to their end."
    BULKHEAD_LIMIT "chassis.bulkhead.limit" UpDownCounter "{request}" [CODE_FUNCTION_NAME]
        Development "Requests that a handler with a concurrency limit serves at most; one more is bulkhead_full."
    CONNECTIONS_ACTIVE "chassis.connections.active" UpDownCounter "{connection}" [LISTENER]
        Development "Connections open now."
    CONNECTIONS_ACCEPTED "chassis.connections.accepted" Counter "{connection}" [LISTENER]
        Development "Connections accepted since the start."
    CONNECTIONS_ENDED "chassis.connections.ended" Counter "{connection}" [LISTENER REASON]
        Development "Connections ended since the start, by the reason."

    HEALTH_CHECK_STATUS "chassis.health.check.status" Gauge "" [CHECK STATUS]
        Development "Health of each check: 1 for the status it has, 0 for each status it has not."
    BACKGROUND_RESTARTS "chassis.background.restarts" Counter "{restart}" [TASK]
        Development "Restarts of background tasks after an error, a panic or an early end."
    REGISTRATION_REGISTERED "chassis.registration.registered" Gauge "" []
        Development "1 while the registry has this instance, as far as is known; 0 otherwise, and without a registry."
    REGISTRATION_CALLS "chassis.registration.calls" Counter "{call}" [OUTCOME]
        Development "Calls of the registry to register this instance, to renew its entry and to take it out."
    LEADER "chassis.leader" Gauge "" [LEADER_NAME]
        Development "Whether this instance leads: 1 or 0, for each leadership that it stands for."
    CONFIG_RELOADS "chassis.config.reloads" Counter "{reload}" [OUTCOME]
        Development "Configuration changes seen while running; a rejected one left the last good values in force."
    LOG_DROPPED_LINES "chassis.log.dropped_lines" Counter "{line}" [STREAM]
        Development "Log lines dropped because the output was slower than the service."
    METRICS_CALLBACK_PANICS "chassis.metrics.callback.panics" Counter "{panic}" [INSTRUMENT]
        Development "Panics of metric callbacks, by instrument; each left its instrument out of one collection."
    LOG_FILTER_OVERRIDE "chassis.log.filter.override" Gauge "s" []
        Development "For how long the log filter that an operator has set still holds; 0 without one."
    TELEMETRY_EXPORTED_SPANS "chassis.telemetry.exported_spans" Counter "{span}" []
        Development "Spans that their receiver accepted."
    TELEMETRY_DROPPED_SPANS "chassis.telemetry.dropped_spans" Counter "{span}" [REASON]
        Development "Spans that did not reach their receiver: the queue was full, or the export failed."
    BUILD_INFO "chassis.build.info" Gauge "" [VERSION GIT_COMMIT]
        Development "Always 1; its labels say what was built."

    PROCESS_CPU_TIME "process.cpu.time" Counter "s" [CPU_MODE]
        ReleaseCandidate "Processor time the process has used."
    PROCESS_MEMORY_USAGE "process.memory.usage" UpDownCounter "By" []
        ReleaseCandidate "Physical memory in use (resident set)."
    PROCESS_MEMORY_VIRTUAL "process.memory.virtual" UpDownCounter "By" []
        ReleaseCandidate "Virtual memory reserved."
    PROCESS_FILE_DESCRIPTORS "process.unix.file_descriptor.count" UpDownCounter "{file_descriptor}" []
        ReleaseCandidate "File descriptors in use, sockets included."
    PROCESS_FILE_DESCRIPTOR_LIMIT "chassis.process.file_descriptor.limit" UpDownCounter "{file_descriptor}" []
        Development "File descriptors the process may have (soft limit)."
    PROCESS_THREADS "process.thread.count" UpDownCounter "{thread}" []
        ReleaseCandidate "Threads of the process."
    PROCESS_UPTIME "process.uptime" Gauge "s" []
        ReleaseCandidate "Time since the process started."

    CGROUP_MEMORY_USAGE "chassis.cgroup.memory.usage" UpDownCounter "By" []
        Development "Memory charged to the control group, page cache included."
    CGROUP_MEMORY_LIMIT "chassis.cgroup.memory.limit" UpDownCounter "By" []
        Development "Memory the control group may use; absent without a limit."
    CGROUP_CPU_LIMIT "chassis.cgroup.cpu.limit" Gauge "{cpu}" []
        Development "Processors the control group may use (quota divided by period); absent without a limit."
    CGROUP_CPU_PERIODS "chassis.cgroup.cpu.periods" Counter "{period}" []
        Development "Scheduling periods in which the control group wanted to run."
    CGROUP_CPU_THROTTLED_PERIODS "chassis.cgroup.cpu.throttled_periods" Counter "{period}" []
        Development "Scheduling periods in which the control group had used up its quota."
    CGROUP_CPU_THROTTLED_TIME "chassis.cgroup.cpu.throttled_time" Counter "s" []
        Development "Time the control group was held back by its quota."

    RUNTIME_WORKERS "chassis.runtime.workers" UpDownCounter "{worker}" []
        Development "Worker threads of the tokio runtime."
    RUNTIME_TASKS "chassis.runtime.alive_tasks" UpDownCounter "{task}" []
        Development "Tasks alive in the tokio runtime."
    RUNTIME_QUEUE_DEPTH "chassis.runtime.global_queue_depth" UpDownCounter "{task}" []
        Development "Tasks waiting in the tokio runtime's global queue."
    RUNTIME_BUSY_TIME "chassis.runtime.worker.busy_time" Counter "s" [WORKER]
        Development "Time each worker thread of the tokio runtime was busy."
}

/// The reference page of all metrics, Markdown. `docs/generated/metrics.md` is this text.
#[must_use]
pub fn reference_markdown() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         The first name goes out over OTLP, the second is the family in the `/metrics` scrape. Histograms in seconds have the\n\
         buckets",
    );
    for bound in SECONDS_BUCKETS {
        let _ = write!(page, " {bound}");
    }
    page.push_str(
        "\nunless `telemetry.metrics.buckets` names others. Names without `chassis.` are those of the OpenTelemetry semantic\n\
         conventions 1.42.\n\n\
         `http.route` is the route's template, or `unmatched`; an unknown method is `_OTHER`. `error.type` is a word of the\n\
         [causes](causes.md), a problem's code, `aborted`, `broken_off`, of calls out `cancelled`, `timed_out`, `unreachable`\n\
         or `untouched`, or the status or code. The attributes of the resource (`service.name`, `service.version`,\n\
         `service.instance.id`) are on `target_info`.\n\n\
         | metric | in the scrape | kind | unit | attributes | stability | meaning |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for metric in METRICS {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::UpDownCounter => "up-down counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let stability = match metric.stability {
            Stability::Stable => "stable",
            Stability::ReleaseCandidate => "release candidate",
            Stability::Development => "development",
        };
        let code = |text: &str| if text.is_empty() { "–".to_owned() } else { format!("`{text}`") };
        let attributes = metric.attributes.iter().map(|name| code(name)).collect::<Vec<_>>().join(" ");
        let attributes = if attributes.is_empty() { "–".to_owned() } else { attributes };
        let _ = writeln!(
            page,
            "| `{}` | `{}` | {kind} | {} | {attributes} | {stability} | {} |",
            metric.name,
            metric.scrape_name(),
            code(metric.unit),
            metric.help,
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_name_and_a_scrape_name_of_its_own() {
        let names: std::collections::HashSet<_> = METRICS.iter().map(|m| m.name).collect();
        let scraped: std::collections::HashSet<_> = METRICS.iter().map(MetricDoc::scrape_name).collect();
        assert_eq!((names.len(), scraped.len()), (METRICS.len(), METRICS.len()));
    }

    #[test]
    fn the_reference_page_has_a_line_for_every_metric() {
        let page = reference_markdown();
        for metric in METRICS {
            assert!(page.contains(&format!("| `{}` | `{}` |", metric.name, metric.scrape_name())), "{}", metric.name);
        }
    }

    #[test]
    fn a_gauge_never_takes_the_suffix_of_a_histogram() {
        assert_eq!(PROCESS_THREADS.scrape_name(), "process_threads");
        assert_eq!(PROCESS_FILE_DESCRIPTORS.scrape_name(), "process_unix_file_descriptors");
        assert_eq!(PROCESS_CPU_TIME.scrape_name(), "process_cpu_time_seconds_total");
    }
}
