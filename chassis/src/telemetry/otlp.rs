//! Where spans and metrics are pushed to, by OpenTelemetry's own `OTEL_*` variables.
//!
//! The variables are read once, from a list that the caller hands in. Without an endpoint nothing is exported and nothing
//! runs; what cannot be honoured is refused at start, all mistakes at once.
//!
//! | variable | default |
//! |---|---|
//! | `OTEL_SDK_DISABLED` | `false`; `true` exports nothing |
//! | `OTEL_TRACES_EXPORTER`, `OTEL_METRICS_EXPORTER` | `otlp` when an endpoint is set, else `none` |
//! | `OTEL_EXPORTER_OTLP_ENDPOINT` | none; an HTTP base, `/v1/traces` and `/v1/metrics` are appended |
//! | `OTEL_EXPORTER_OTLP_{TRACES,METRICS}_ENDPOINT` | none; used as it is |
//! | `OTEL_EXPORTER_OTLP_PROTOCOL` | `grpc` on port 4317, else `http/protobuf` |
//! | `OTEL_EXPORTER_OTLP_HEADERS` | none |
//! | `OTEL_EXPORTER_OTLP_TIMEOUT` | 10000 ms for one try |
//! | `OTEL_EXPORTER_OTLP_COMPRESSION` | `none`, the only one this build has |
//! | `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE` | `cumulative` |
//! | `OTEL_BSP_MAX_QUEUE_SIZE`, `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` | 2048, 512 spans |
//! | `OTEL_BSP_SCHEDULE_DELAY`, `OTEL_BSP_EXPORT_TIMEOUT` | 5000 ms, 30000 ms |
//! | `OTEL_METRIC_EXPORT_INTERVAL`, `OTEL_METRIC_EXPORT_TIMEOUT` | 60000 ms, 30000 ms |
//! | `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | the instance's identity |
//!
//! `PROTOCOL`, `HEADERS`, `TIMEOUT` and `COMPRESSION` have `_TRACES_` and `_METRICS_` forms too, which go first.
//! An empty value is no value. Source: OpenTelemetry specification, "Environment Variable Specification" and
//! "OpenTelemetry Protocol Exporter"; the defaults are theirs, except that no endpoint means no export, and that the
//! port registered for OTLP over gRPC means gRPC.

use std::{fmt, ops::RangeInclusive, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use opentelemetry_sdk::metrics::Temporality;

use crate::telemetry::resource::{ResourceSettings, pairs};

mod diagnose;
pub(crate) mod export;

/// The port registered for OTLP over gRPC.
const GRPC_PORT: u16 = 4317;
/// OTLP over HTTP goes here when export is asked for without an endpoint; the specification's default.
const DEFAULT_HTTP_ENDPOINT: &str = "http://localhost:4318";
/// OTLP over gRPC goes here when export is asked for without an endpoint; the specification's default.
const DEFAULT_GRPC_ENDPOINT: &str = "http://localhost:4317";
/// Milliseconds; the specification's default.
const DEFAULT_TIMEOUT: u64 = 10_000;
/// Spans; the specification's default.
const DEFAULT_QUEUE_SIZE: u64 = 2_048;
/// Chosen: the queue is allocated at once, and this many take about 100 MiB.
const MAX_QUEUE_SIZE: u64 = 262_144;
/// Spans; the specification's default.
const DEFAULT_BATCH_SIZE: u64 = 512;
/// Milliseconds; the specification's default.
const DEFAULT_SCHEDULE_DELAY: u64 = 5_000;
/// Milliseconds; the specification's default for spans and for metrics.
const DEFAULT_EXPORT_TIMEOUT: u64 = 30_000;
/// Milliseconds; the specification's default.
const DEFAULT_METRIC_INTERVAL: u64 = 60_000;
/// Chosen: an hour. Zero would spin, and nobody means more.
const MILLISECONDS: RangeInclusive<u64> = 1..=3_600_000;

/// One mistake in the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EnvProblem {
    /// The variable, such as `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub(crate) variable: String,
    /// What was found, what is expected, what to do. Never a header's value.
    pub(crate) message: String,
}

impl fmt::Display for EnvProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.variable, self.message)
    }
}

/// How export requests are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Grpc,
    HttpProtobuf,
}

/// Where one signal goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) url: Uri,
    pub(crate) protocol: Protocol,
    /// Sent with every export; the values are marked sensitive, so that nothing prints them.
    pub(crate) headers: HeaderMap,
    /// The limit of one try.
    pub(crate) timeout: Duration,
}

/// Spans on their way to the exporter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchSettings {
    /// Spans that may wait; the next one is dropped and counted.
    pub(crate) queue_size: usize,
    /// Spans in one export.
    pub(crate) batch_size: usize,
    /// The longest that a span waits for its batch to fill.
    pub(crate) schedule_delay: Duration,
    /// The limit of one export, retries included.
    pub(crate) export_timeout: Duration,
}

/// The times of metric export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MetricSettings {
    pub(crate) interval: Duration,
    /// The limit of one export, retries included.
    pub(crate) export_timeout: Duration,
    pub(crate) temporality: Temporality,
}

/// All that the `OTEL_*` variables say of export and resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OtlpSettings {
    /// Where spans go; `None`: nowhere.
    pub(crate) traces: Option<Target>,
    /// Where metrics are pushed to; `None`: nowhere. The scrape endpoint does not depend on it.
    pub(crate) metrics: Option<Target>,
    pub(crate) batch: BatchSettings,
    pub(crate) metric: MetricSettings,
    pub(crate) resource: ResourceSettings,
}

impl OtlpSettings {
    /// Reads the variables. Of two with one name, the later counts.
    ///
    /// # Errors
    ///
    /// All mistakes at once, in the order in which they are met.
    pub(crate) fn from_env(env: &[(String, String)]) -> Result<Self, Vec<EnvProblem>> {
        let mut reader = Reader { env, problems: Vec::new() };
        let disabled = reader.boolean("OTEL_SDK_DISABLED");
        let resource = reader.resource();
        // Who turns export off does not want to be told that its settings are wrong.
        // A target that is wrong is wanted all the same, and so are its settings.
        let mut wanted = |signal| {
            let before = reader.problems.len();
            let target = if disabled { None } else { reader.target(signal) };
            (target.is_some() || reader.problems.len() > before, target)
        };
        let ((traced, traces), (measured, metrics)) = (wanted(Signal::Traces), wanted(Signal::Metrics));
        let batch = if traced { reader.batch() } else { Reader::nothing().batch() };
        let metric = if measured { reader.metric() } else { Reader::nothing().metric() };
        let mut problems = reader.problems;
        // A mistake in a variable of both signals is met twice.
        let mut seen = std::collections::HashSet::new();
        problems.retain(|problem| seen.insert(problem.to_string()));
        if problems.is_empty() { Ok(Self { traces, metrics, batch, metric, resource }) } else { Err(problems) }
    }
}

#[derive(Clone, Copy)]
enum Signal {
    Traces,
    Metrics,
}

impl Signal {
    /// The variable of this signal, or of both.
    fn variable(self, name: &str) -> String {
        match self {
            Self::Traces => format!("OTEL_EXPORTER_OTLP_TRACES_{name}"),
            Self::Metrics => format!("OTEL_EXPORTER_OTLP_METRICS_{name}"),
        }
    }

    const fn exporter(self) -> &'static str {
        match self {
            Self::Traces => "OTEL_TRACES_EXPORTER",
            Self::Metrics => "OTEL_METRICS_EXPORTER",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Traces => "v1/traces",
            Self::Metrics => "v1/metrics",
        }
    }
}

struct Reader<'a> {
    env: &'a [(String, String)],
    problems: Vec<EnvProblem>,
}

impl<'a> Reader<'a> {
    /// An empty environment, which gives the defaults.
    const fn nothing() -> Self {
        Self { env: &[], problems: Vec::new() }
    }

    fn get(&self, variable: &str) -> Option<&'a str> {
        let found = self.env.iter().rev().find(|(name, _)| name == variable)?;
        Some(found.1.trim()).filter(|value| !value.is_empty())
    }

    /// The signal's own variable if it is set, else the one of all signals: its name and its value.
    fn get_for(&self, signal: Signal, name: &str) -> Option<(String, &'a str)> {
        [signal.variable(name), format!("OTEL_EXPORTER_OTLP_{name}")]
            .into_iter()
            .find_map(|variable| self.get(&variable).map(|value| (variable, value)))
    }

    fn refuse(&mut self, variable: impl Into<String>, message: impl Into<String>) {
        self.problems.push(EnvProblem { variable: variable.into(), message: message.into() });
    }

    fn boolean(&mut self, variable: &str) -> bool {
        match self.get(variable) {
            Some(value) if value.eq_ignore_ascii_case("true") => true,
            None => false,
            Some(value) if value.eq_ignore_ascii_case("false") => false,
            Some(value) => {
                self.refuse(variable, format!("found {value:?}, expected \"true\" or \"false\""));
                false
            }
        }
    }

    fn number(&mut self, variable: &str, default: u64, range: RangeInclusive<u64>, unit: &str) -> u64 {
        let Some(value) = self.get(variable) else { return default };
        value.parse().ok().filter(|number| range.contains(number)).unwrap_or_else(|| {
            let (least, most) = (range.start(), range.end());
            self.refuse(variable, format!("found {value:?}, expected a number of {unit} from {least} to {most}"));
            default
        })
    }

    fn milliseconds(&mut self, variable: &str, default: u64) -> Duration {
        Duration::from_millis(self.number(variable, default, MILLISECONDS, "milliseconds"))
    }

    fn resource(&mut self) -> ResourceSettings {
        let variable = "OTEL_RESOURCE_ATTRIBUTES";
        let mut resource = match self.get(variable).map(ResourceSettings::parse) {
            None => ResourceSettings::default(),
            Some(Ok(resource)) => resource,
            Some(Err(message)) => {
                self.refuse(variable, message);
                ResourceSettings::default()
            }
        };
        if let Some(name) = self.get("OTEL_SERVICE_NAME") {
            resource.set_service_name(name);
        }
        resource
    }

    fn batch(&mut self) -> BatchSettings {
        let queue = self.number("OTEL_BSP_MAX_QUEUE_SIZE", DEFAULT_QUEUE_SIZE, 1..=MAX_QUEUE_SIZE, "spans");
        let default = DEFAULT_BATCH_SIZE.min(queue);
        let batch = self.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", default, 1..=queue, "spans");
        // Both are at most MAX_QUEUE_SIZE, which every `usize` holds.
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        BatchSettings {
            queue_size: size(queue),
            batch_size: size(batch),
            schedule_delay: self.milliseconds("OTEL_BSP_SCHEDULE_DELAY", DEFAULT_SCHEDULE_DELAY),
            export_timeout: self.milliseconds("OTEL_BSP_EXPORT_TIMEOUT", DEFAULT_EXPORT_TIMEOUT),
        }
    }

    fn metric(&mut self) -> MetricSettings {
        let variable = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
        let temporality = match self.get(variable).map(|value| (value, value.parse())) {
            None => Temporality::Cumulative,
            Some((_, Ok(temporality))) => temporality,
            Some((value, Err(()))) => {
                self.refuse(variable, format!("found {value:?}, expected \"cumulative\", \"delta\" or \"lowmemory\""));
                Temporality::Cumulative
            }
        };
        MetricSettings {
            interval: self.milliseconds("OTEL_METRIC_EXPORT_INTERVAL", DEFAULT_METRIC_INTERVAL),
            export_timeout: self.milliseconds("OTEL_METRIC_EXPORT_TIMEOUT", DEFAULT_EXPORT_TIMEOUT),
            temporality,
        }
    }

    fn target(&mut self, signal: Signal) -> Option<Target> {
        let asked_for = match self.get(signal.exporter()) {
            None => false,
            Some("otlp") => true,
            Some("none") => return None,
            Some(value) => {
                self.refuse(
                    signal.exporter(),
                    format!("found {value:?}, expected \"otlp\" or \"none\"; this build has no other exporter"),
                );
                return None;
            }
        };
        let endpoint = self.get_for(signal, "ENDPOINT");
        if endpoint.is_none() && !asked_for {
            return None;
        }
        let protocol = self.protocol(signal);
        let headers = self.headers(signal);
        let timeout = match self.get_for(signal, "TIMEOUT") {
            Some((variable, _)) => self.milliseconds(&variable, DEFAULT_TIMEOUT),
            None => Duration::from_millis(DEFAULT_TIMEOUT),
        };
        self.refuse_what_this_build_lacks(signal);

        let (variable, text) = endpoint.unwrap_or_else(|| match protocol {
            Some(Protocol::Grpc) => (String::new(), DEFAULT_GRPC_ENDPOINT),
            _ => (String::new(), DEFAULT_HTTP_ENDPOINT),
        });
        let url = match self.endpoint(signal, text) {
            Ok(url) => url,
            Err(message) => {
                self.refuse(variable, message);
                return None;
            }
        };
        let protocol = protocol.unwrap_or(match url.port_u16() {
            Some(GRPC_PORT) => Protocol::Grpc,
            _ => Protocol::HttpProtobuf,
        });
        let is_base = variable != signal.variable("ENDPOINT");
        let url = if is_base && protocol == Protocol::HttpProtobuf { join(&url, signal.path()) } else { url };
        Some(Target { url, protocol, headers, timeout })
    }

    fn endpoint(&self, signal: Signal, text: &str) -> Result<Uri, String> {
        // Credentials in the address would be printed with it.
        if text.contains('@') {
            return Err(
                "found credentials in the address; send them as a header by OTEL_EXPORTER_OTLP_HEADERS".to_owned()
            );
        }
        let has_scheme = text.contains("://");
        let insecure = self.get_for(signal, "INSECURE").is_some_and(|(_, value)| value.eq_ignore_ascii_case("true"));
        if !has_scheme && !insecure {
            return Err(format!("found {text:?}, expected an address with its scheme, such as \"http://{text}\""));
        }
        let full = if has_scheme { text.to_owned() } else { format!("http://{text}") };
        let url: Uri = full.parse().map_err(|error| format!("found {text:?}, expected an http:// address: {error}"))?;
        match url.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(format!(
                    "found {text:?}, expected an http:// address: this build exports telemetry without TLS; send to a \
                     collector beside the service, such as \"{DEFAULT_HTTP_ENDPOINT}\", and let it forward over TLS"
                ));
            }
            _ => return Err(format!("found {text:?}, expected an http:// address")),
        }
        match url.authority() {
            // Something stands behind the host, and it is not a port.
            Some(authority) if authority.port_u16().is_none() && authority.as_str() != authority.host() => {
                Err(format!("found {text:?}, expected a port from 0 to 65535 behind the host"))
            }
            Some(authority) if !authority.host().is_empty() => Ok(url),
            _ => Err(format!("found {text:?}, expected a host behind http://")),
        }
    }

    /// `None`: not said, so the port decides.
    fn protocol(&mut self, signal: Signal) -> Option<Protocol> {
        let (variable, value) = self.get_for(signal, "PROTOCOL")?;
        match value {
            "grpc" => return Some(Protocol::Grpc),
            "http/protobuf" => return Some(Protocol::HttpProtobuf),
            "http/json" => self.refuse(
                variable,
                "found \"http/json\", which this build does not have; \"http/protobuf\" goes to the same port and path",
            ),
            _ => self.refuse(variable, format!("found {value:?}, expected \"grpc\" or \"http/protobuf\"")),
        }
        None
    }

    fn headers(&mut self, signal: Signal) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let Some((variable, value)) = self.get_for(signal, "HEADERS") else { return headers };
        match pairs(value) {
            Err(message) => self.refuse(variable, message),
            Ok(pairs) => {
                for (name, value) in pairs {
                    match (name.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
                        (Ok(name), Ok(mut value)) => {
                            value.set_sensitive(true);
                            headers.insert(name, value);
                        }
                        (Err(_), _) => self.refuse(&variable, format!("found {name:?}, expected the name of a header")),
                        (_, Err(_)) => {
                            self.refuse(
                                &variable,
                                format!("the value of {name} has characters that no header may carry"),
                            );
                        }
                    }
                }
            }
        }
        headers
    }

    /// A setting that looks like protection or thrift and is neither must not be accepted silently.
    fn refuse_what_this_build_lacks(&mut self, signal: Signal) {
        if let Some((variable, value)) = self.get_for(signal, "COMPRESSION")
            && value != "none"
        {
            self.refuse(
                variable,
                format!("found {value:?}, expected \"none\"; this build has no compression for export"),
            );
        }
        for name in ["CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"] {
            if let Some((variable, _)) = self.get_for(signal, name) {
                self.refuse(
                    variable,
                    "this build exports telemetry without TLS; remove it, or export by way of a local collector",
                );
            }
        }
    }
}

/// Appends a path to a base address, whether that ends in a slash or not.
fn join(base: &Uri, path: &str) -> Uri {
    let authority = base.authority().map_or("", |authority| authority.as_str());
    let joined = format!("http://{authority}{}/{path}", base.path().trim_end_matches('/'));
    // A valid address stays valid with a plain path behind it.
    joined.parse().unwrap_or_else(|_| base.clone())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn settings(env: &[(&str, &str)]) -> Result<OtlpSettings, Vec<EnvProblem>> {
        let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        OtlpSettings::from_env(&env)
    }

    #[track_caller]
    fn refused(env: &[(&str, &str)], expected: &str) {
        let problems = settings(env).unwrap_err();
        let text: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert!(text.len() == 1 && text[0].contains(expected), "{text:?}");
    }

    #[track_caller]
    fn urls(env: &[(&str, &str)]) -> (String, String) {
        let settings = settings(env).unwrap();
        let url = |target: Option<Target>| target.map_or("-".to_owned(), |target| target.url.to_string());
        (url(settings.traces), url(settings.metrics))
    }

    const BASE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";

    #[test]
    fn no_endpoint_means_no_export() {
        assert_eq!(urls(&[]), ("-".into(), "-".into()));
        assert_eq!(urls(&[(BASE, " ")]), ("-".into(), "-".into()));
    }

    #[test]
    fn base_endpoint_gets_the_signal_path_and_a_signal_endpoint_does_not() {
        let all = |base| (format!("{base}/v1/traces"), format!("{base}/v1/metrics"));
        assert_eq!(urls(&[(BASE, "http://c:4318")]), all("http://c:4318"));
        assert_eq!(urls(&[(BASE, "http://c:4318/")]), all("http://c:4318"));
        assert_eq!(urls(&[(BASE, "http://c/otlp/")]), all("http://c/otlp"));
        assert_eq!(urls(&[(TRACES, "http://c:4318/in")]), ("http://c:4318/in".into(), "-".into()));
        assert_eq!(
            urls(&[(TRACES, "http://t:4318"), (BASE, "http://c:4318")]),
            ("http://t:4318/".into(), "http://c:4318/v1/metrics".into())
        );
    }

    #[test]
    fn grpc_endpoint_gets_no_path() {
        let env = [(BASE, "http://c:4000"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
        assert_eq!(urls(&env), ("http://c:4000/".into(), "http://c:4000/".into()));
    }

    #[test]
    fn registered_grpc_port_means_grpc_unless_said_otherwise() {
        let protocol = |env: &[(&str, &str)]| settings(env).unwrap().traces.unwrap().protocol;
        assert_eq!(protocol(&[(BASE, "http://c:4317")]), Protocol::Grpc);
        assert_eq!(protocol(&[(BASE, "http://c:4318")]), Protocol::HttpProtobuf);
        assert_eq!(
            protocol(&[(BASE, "http://c:4317"), ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")]),
            Protocol::HttpProtobuf
        );
    }

    #[test]
    fn https_is_refused_with_a_way_out() {
        refused(&[(BASE, "https://collector.example:4318")], "let it forward over TLS");
    }

    #[test]
    fn address_without_scheme_needs_insecure() {
        refused(&[(BASE, "collector:4317")], "such as \"http://collector:4317\"");
        let env = [(BASE, "collector:4317"), ("OTEL_EXPORTER_OTLP_INSECURE", "true")];
        assert_eq!(urls(&env).0, "http://collector:4317/");
    }

    #[test]
    fn credentials_in_an_address_are_refused_and_not_repeated() {
        let problems = settings(&[(BASE, "http://me:hunter2@c")]).unwrap_err();
        assert!(!format!("{problems:?}").contains("hunter2"), "{problems:?}");
    }

    #[test]
    fn what_the_build_lacks_is_refused() {
        let on = (BASE, "http://c:4318");
        refused(&[on, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")], "http/protobuf");
        refused(&[on, ("OTEL_EXPORTER_OTLP_PROTOCOL", "thrift")], "expected \"grpc\" or");
        refused(&[on, ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")], "expected \"none\"");
        refused(&[on, ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem")], "without TLS");
        refused(&[on, ("OTEL_TRACES_EXPORTER", "console")], "expected \"otlp\" or \"none\"");
        refused(&[(BASE, "http://c:99999")], "expected a port");
        refused(&[(BASE, "unix:///run/otel")], "expected an http:// address");
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let env = [
            (BASE, "http://c:4318"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "-1"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a"),
            ("OTEL_SDK_DISABLED", "yes"),
        ];
        assert_eq!(settings(&env).unwrap_err().len(), 5);
    }

    #[test]
    fn a_batch_is_never_larger_than_the_queue() {
        let on = (BASE, "http://c:4318");
        let small = settings(&[on, ("OTEL_BSP_MAX_QUEUE_SIZE", "10")]).unwrap().batch;
        assert_eq!((small.queue_size, small.batch_size), (10, 10));
        refused(&[on, ("OTEL_BSP_MAX_QUEUE_SIZE", "10"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "11")], "from 1 to 10");
    }

    #[test]
    fn export_asked_for_without_an_endpoint_goes_to_the_standard_one() {
        let env = [("OTEL_TRACES_EXPORTER", "otlp")];
        assert_eq!(urls(&env), ("http://localhost:4318/v1/traces".into(), "-".into()));
        let grpc = [("OTEL_TRACES_EXPORTER", "otlp"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
        assert_eq!(urls(&grpc).0, "http://localhost:4317/");
    }

    #[test]
    fn disabled_or_none_exports_nothing_whatever_else_is_set() {
        let wrong = (BASE, "https://c");
        assert_eq!(urls(&[wrong, ("OTEL_SDK_DISABLED", "TRUE")]).0, "-");
        assert_eq!(urls(&[wrong, ("OTEL_TRACES_EXPORTER", "none"), ("OTEL_METRICS_EXPORTER", "none")]).0, "-");
    }

    #[test]
    fn header_values_are_decoded_and_never_printed() {
        let on = (BASE, "http://c:4318");
        let target = settings(&[on, ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20hunter2, X-Team=pay")])
            .unwrap()
            .traces
            .unwrap();
        assert_eq!(target.headers["authorization"], "Bearer hunter2");
        assert_eq!(target.headers["x-team"], "pay");
        assert!(!format!("{target:?}").contains("hunter2"));
        let problems =
            settings(&[on, ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2%0a,b c=hunter2")]).unwrap_err();
        assert_eq!(problems.len(), 2);
        assert!(!format!("{problems:?}").contains("hunter2"), "{problems:?}");
    }
}
