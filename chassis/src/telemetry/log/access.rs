//! The access log: one line per request, written by hand because every request pays for it.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry::trace::{SpanId, TraceId};
use tonic::Code;
use tracing::Level;

use super::{
    AccessLogConfig, Style,
    blame::Blame,
    line::{Format, Line, key, with_buffer},
    redact::{HIDDEN, Redactor},
    sink::LineSink,
};
use crate::{
    context::Protocol,
    telemetry::metrics::{code_name, is_server_error},
};

/// What access lines carry as their target.
pub(crate) const TARGET: &str = "chassis::access";

/// How the service answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccessStatus {
    /// The HTTP status code.
    Http(u16),
    /// The gRPC status code.
    Grpc(Code),
}

impl AccessStatus {
    /// Whether the service, not the caller, is at fault.
    fn is_server_error(self) -> bool {
        match self {
            Self::Http(status) => status >= 500,
            Self::Grpc(code) => is_server_error(code),
        }
    }
}

/// How the exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccessOutcome {
    /// The response was handed over whole.
    Complete,
    /// The caller went away, or the connection broke, before the end.
    Aborted,
}

/// One request, as the access log tells it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AccessRecord<'a> {
    pub(crate) protocol: Protocol,
    pub(crate) method: &'a str,
    /// Without the query.
    pub(crate) path: &'a str,
    /// Without the question mark.
    pub(crate) query: Option<&'a str>,
    /// The route's template; `None` when no route answers.
    pub(crate) route: Option<&'a str>,
    pub(crate) status: AccessStatus,
    pub(crate) error_type: Option<&'static str>,
    /// From the request's head to the end of the response's body.
    pub(crate) duration: Duration,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    pub(crate) peer: Option<IpAddr>,
    pub(crate) user_agent: Option<&'a str>,
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    pub(crate) sampled: bool,
    pub(crate) outcome: AccessOutcome,
    /// Whose doing a failure is.
    pub(crate) blame: Option<Blame>,
}

/// Writes access lines. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct AccessLog {
    sink: LineSink,
    style: Style,
    settings: Arc<Settings>,
}

/// What may change while the service runs. Each value stands for itself, so no lock is needed.
#[derive(Debug, Default)]
struct Settings {
    enabled: AtomicBool,
    query: AtomicBool,
    /// The share of successes, as a share of all numbers of 64 bits.
    successes: AtomicU64,
    slow_nanos: AtomicU64,
}

impl AccessLog {
    pub(crate) fn new(config: &AccessLogConfig, style: Style, sink: LineSink) -> Self {
        let log = Self { sink, style, settings: Arc::default() };
        log.configure(config);
        log
    }

    /// Takes new settings over; every clone follows.
    pub(crate) fn configure(&self, config: &AccessLogConfig) {
        let Settings { enabled, query, successes, slow_nanos } = &*self.settings;
        enabled.store(config.enabled, Ordering::Relaxed);
        query.store(config.query, Ordering::Relaxed);
        // A float becomes an integer by saturation, so 1 gives the largest.
        successes.store((config.success_ratio * u64::MAX as f64) as u64, Ordering::Relaxed);
        slow_nanos.store(nanos(config.slow.get()), Ordering::Relaxed);
    }

    /// Whether this request is to be written: failures, refusals and slow requests always, the others by their share.
    #[inline]
    pub(crate) fn wants(&self, status: AccessStatus, error_type: Option<&'static str>, duration: Duration) -> bool {
        if !self.settings.enabled.load(Ordering::Relaxed) {
            return false;
        }
        let successes = self.settings.successes.load(Ordering::Relaxed);
        successes == u64::MAX || self.is_remarkable(status, error_type, duration) || fastrand::u64(..) < successes
    }

    /// Whether the request failed, was refused or was slow.
    pub(crate) fn is_remarkable(
        &self,
        status: AccessStatus,
        error_type: Option<&'static str>,
        duration: Duration,
    ) -> bool {
        error_type.is_some() || status.is_server_error() || self.is_slow(duration)
    }

    fn is_slow(&self, duration: Duration) -> bool {
        nanos(duration) >= self.settings.slow_nanos.load(Ordering::Relaxed)
    }

    /// Writes the line. Ask [`wants`](Self::wants) first.
    ///
    /// The level of a failure is that of its [`Blame`]; a slow or aborted request is WARN, any other INFO. It does not make
    /// the line urgent: when everything fails, a wake-up per request would make it worse.
    pub(crate) fn write(&self, record: &AccessRecord<'_>) {
        let remarkable = record.outcome == AccessOutcome::Aborted || self.is_slow(record.duration);
        let level = match record.blame {
            Some(blame) => blame.level(),
            None if remarkable => Level::WARN,
            None => Level::INFO,
        };
        with_buffer(|out| {
            // The format as a constant, so that two versions are built, each without a decision per field.
            match self.style.format {
                Format::Json => self.line(out, Format::Json, level, record),
                text @ Format::Text { .. } => self.line(out, text, level, record),
            }
            self.sink.push(out, false);
        });
    }

    #[inline(always)]
    fn line(&self, out: &mut Vec<u8>, format: Format, level: Level, record: &AccessRecord<'_>) {
        let mut line = Line::begin(out, format, level, TARGET);
        self.fields(&mut line, record);
        if self.style.resource_on_lines {
            line.resource(&self.style.resource);
        }
        line.end();
    }

    /// For people: what was asked and what came of it as a sentence, and the fields that they look for. JSON has all of them.
    fn text(&self, line: &mut Line<'_>, record: &AccessRecord<'_>) {
        let method = if record.protocol == Protocol::Http { record.method } else { "gRPC" };
        let millis = record.duration.as_secs_f64() * 1000.0;
        match record.status {
            AccessStatus::Http(status) => {
                line.message(format_args!("{method} {} {status} {millis:.1} ms", record.path));
            }
            AccessStatus::Grpc(code) => {
                line.message(format_args!("{method} {} {} {millis:.1} ms", record.path, code_name(code)));
            }
        }
        if let Some(query) = record.query.filter(|_| self.settings.query.load(Ordering::Relaxed)) {
            line.key(key!("url.query"));
            write_query(line, query, &self.style.redactor);
        }
        if let Some(error_type) = record.error_type {
            line.key(key!("error.type")).string(error_type);
        }
        if record.outcome == AccessOutcome::Aborted {
            line.key(key!("outcome")).word("aborted");
        }
        if let Some(peer) = record.peer {
            line.key(key!("network.peer.address"));
            write_address(line, peer);
        }
        line.trace(record.trace_id, record.span_id);
    }

    #[inline(always)]
    fn fields(&self, line: &mut Line<'_>, record: &AccessRecord<'_>) {
        if !line.is_json() {
            return self.text(line, record);
        }
        line.key(key!("protocol")).word(match record.protocol {
            Protocol::Http => "http",
            Protocol::Grpc => "grpc",
            Protocol::GrpcWeb => "grpc-web",
        });
        line.key(key!("http.request.method")).string(record.method);
        line.key(key!("url.path")).string(record.path);
        if let Some(query) = record.query.filter(|_| self.settings.query.load(Ordering::Relaxed)) {
            line.key(key!("url.query"));
            write_query(line, query, &self.style.redactor);
        }
        if let Some(route) = record.route {
            match record.status {
                AccessStatus::Http(_) => line.key(key!("http.route")).string(route),
                AccessStatus::Grpc(_) => line.key(key!("rpc.method")).string(route),
            }
        }
        match record.status {
            AccessStatus::Http(status) => line.key(key!("http.response.status_code")).unsigned(status.into()),
            AccessStatus::Grpc(code) => line.key(key!("rpc.response.status_code")).word(code_name(code)),
        }
        if let Some(error_type) = record.error_type {
            line.key(key!("error.type")).string(error_type);
        }
        line.key(key!("duration_seconds")).seconds(record.duration);
        line.key(key!("http.request.body.size")).unsigned(record.request_bytes);
        line.key(key!("http.response.body.size")).unsigned(record.response_bytes);
        if let Some(peer) = record.peer {
            line.key(key!("network.peer.address"));
            write_address(line, peer);
        }
        if let Some(user_agent) = record.user_agent {
            line.key(key!("user_agent.original")).string(user_agent);
        }
        line.trace(record.trace_id, record.span_id);
        line.key(key!("sampled")).boolean(record.sampled);
        line.key(key!("outcome")).word(match record.outcome {
            AccessOutcome::Complete => "complete",
            AccessOutcome::Aborted => "aborted",
        });
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn write_query(line: &mut Line<'_>, query: &str, redactor: &Redactor) {
    let mut shown = String::with_capacity(query.len());
    for (at, pair) in query.split('&').enumerate() {
        if at > 0 {
            shown.push('&');
        }
        match pair.split_once('=') {
            Some((name, _)) if redactor.hides_parameter(name) => {
                shown.push_str(name);
                shown.push('=');
                shown.push_str(HIDDEN);
            }
            _ => shown.push_str(pair),
        }
    }
    line.string(&shown);
}

fn write_address(line: &mut Line<'_>, address: IpAddr) {
    let IpAddr::V4(address) = address else {
        return line.formatted(format_args!("{address}"));
    };
    let quote: &[u8] = if line.is_json() { b"\"" } else { b"" };
    line.out.extend_from_slice(quote);
    for (at, octet) in address.octets().into_iter().enumerate() {
        if at > 0 {
            line.out.push(b'.');
        }
        line.unsigned(octet.into());
    }
    line.out.extend_from_slice(quote);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::{
        super::{
            LogConfig, fields,
            sink::tests::{Writes, silent},
            tests::style,
        },
        *,
    };

    fn record() -> AccessRecord<'static> {
        AccessRecord {
            protocol: Protocol::Http,
            method: "GET",
            path: "/orders/7",
            query: Some("page=2&token=hunter2&user%5Bpassword%5D=hunter2"),
            route: Some("/orders/{id}"),
            status: AccessStatus::Http(200),
            error_type: None,
            duration: Duration::from_micros(1234),
            request_bytes: 0,
            response_bytes: 215,
            peer: Some([10, 0, 200, 3].into()),
            user_agent: Some("curl/8 \"x\"\n"),
            trace_id: TraceId::from(0xabc),
            span_id: SpanId::from(0xdef),
            sampled: true,
            outcome: AccessOutcome::Complete,
            blame: None,
        }
    }

    fn line_of(config: &AccessLogConfig, record: &AccessRecord<'_>) -> String {
        let writes = Writes::default();
        let sink = LineSink::new(writes.clone(), 1 << 20, silent()).unwrap();
        AccessLog::new(config, style(&LogConfig::default()), sink).write(record);
        writes.text()
    }

    fn json_of(record: &AccessRecord<'_>) -> Value {
        serde_json::from_str(&line_of(&AccessLogConfig::default(), record)).unwrap()
    }

    #[test]
    fn a_request_is_one_line_with_the_names_of_the_conventions() {
        let mut line = json_of(&record());
        line.as_object_mut().unwrap().remove("timestamp").unwrap();
        let expected = json!({
            "level": "INFO", "target": "chassis::access", "protocol": "http",
            "http.request.method": "GET", "url.path": "/orders/7", "http.route": "/orders/{id}",
            "http.response.status_code": 200, "duration_seconds": 0.001234,
            "http.request.body.size": 0, "http.response.body.size": 215,
            "network.peer.address": "10.0.200.3", "user_agent.original": "curl/8 \"x\"\n",
            "trace_id": "00000000000000000000000000000abc", "span_id": "0000000000000def", "sampled": true, "outcome": "complete",
        });
        assert_eq!(line, expected);
    }

    #[test]
    fn a_call_says_its_code_and_its_error() {
        let call = AccessRecord {
            protocol: Protocol::Grpc,
            status: AccessStatus::Grpc(Code::Unavailable),
            error_type: Some("draining"),
            outcome: AccessOutcome::Aborted,
            blame: Some(Blame::Service),
            peer: Some("2001:db8::1".parse().unwrap()),
            ..record()
        };
        let line = json_of(&call);
        let shown = ["level", "protocol", "rpc.response.status_code", "error.type", "outcome", "network.peer.address"];
        let expected = ["ERROR", "grpc", "UNAVAILABLE", "draining", "aborted", "2001:db8::1"];
        assert_eq!(shown.map(|key| line[key].as_str().unwrap()), expected);
        assert_eq!(json_of(&AccessRecord { outcome: AccessOutcome::Aborted, ..record() })["level"], "WARN");
        assert_eq!(json_of(&AccessRecord { blame: Some(Blame::Probe), ..call })["level"], "INFO");
        assert_eq!(json_of(&AccessRecord { duration: Duration::from_secs(1), ..record() })["level"], "WARN");
    }

    #[test]
    fn a_line_for_people_begins_with_the_request() {
        let text = |record: &AccessRecord<'_>| {
            let writes = Writes::default();
            let sink = LineSink::new(writes.clone(), 1 << 20, silent()).unwrap();
            let config = LogConfig { format: super::super::LogFormat::Text, ..LogConfig::default() };
            AccessLog::new(&AccessLogConfig::default(), style(&config), sink).write(record);
            writes.text().split_once(' ').unwrap().1.to_owned()
        };
        let line = text(&record());
        let begin = " INFO chassis::access: GET /orders/7 200 1.2 ms network.peer.address=10.0.200.3 trace_id=";
        assert!(line.starts_with(begin), "{line}");
        assert!(line.len() < 200, "{line}");
        let call = AccessRecord {
            protocol: Protocol::Grpc,
            path: "/orders.v1.Orders/GetOrder\n",
            status: AccessStatus::Grpc(Code::NotFound),
            error_type: Some("unknown_order"),
            ..record()
        };
        let line = text(&call);
        assert!(
            line.contains(": gRPC /orders.v1.Orders/GetOrder\\n NOT_FOUND 1.2 ms error.type=unknown_order"),
            "{line}"
        );
        assert_eq!(line.matches('\n').count(), 1, "a path forges no line: {line}");
    }

    #[test]
    fn the_query_is_written_only_on_request_and_without_its_secrets() {
        let line = line_of(&AccessLogConfig::default(), &record());
        assert!(!line.contains("page=2") && !line.contains("hunter2"), "{line}");
        let line = line_of(&AccessLogConfig { query: true, ..AccessLogConfig::default() }, &record());
        assert!(line.contains(r#""url.query":"page=2&token=***&user%5Bpassword%5D=***""#), "{line}");
    }

    #[test]
    fn the_reference_tells_every_field_of_an_access_line() {
        let all = AccessLogConfig { query: true, ..AccessLogConfig::default() };
        let style = || style(&LogConfig { resource: true, ..LogConfig::default() });
        let line = |record: &AccessRecord<'_>| -> Value {
            let writes = Writes::default();
            let sink = LineSink::new(writes.clone(), 1 << 20, silent()).unwrap();
            AccessLog::new(&all, style(), sink).write(record);
            serde_json::from_str(&writes.text()).unwrap()
        };
        let failed = AccessRecord { error_type: Some("draining"), ..record() };
        let call = AccessRecord { protocol: Protocol::Grpc, status: AccessStatus::Grpc(Code::Ok), ..record() };
        fields::tests::compare(fields::Kind::Access, &[line(&failed), line(&call)], &[]);
    }

    fn log(config: &AccessLogConfig) -> AccessLog {
        AccessLog::new(config, style(&LogConfig::default()), LineSink::new(Writes::default(), 1, silent()).unwrap())
    }

    #[test]
    fn failures_and_slow_requests_are_wanted_whatever_the_share_of_successes() {
        let log = log(&AccessLogConfig { success_ratio: 0.0, ..AccessLogConfig::default() });
        let quick = Duration::from_millis(999);
        assert!(!log.wants(AccessStatus::Http(200), None, quick));
        assert!(!log.wants(AccessStatus::Http(404), None, quick));
        assert!(!log.wants(AccessStatus::Grpc(Code::NotFound), None, quick));
        assert!(log.wants(AccessStatus::Http(500), None, quick));
        assert!(log.wants(AccessStatus::Grpc(Code::Internal), None, quick));
        assert!(log.wants(AccessStatus::Http(429), Some("rate_limited"), quick));
        assert!(log.wants(AccessStatus::Http(200), None, Duration::from_secs(1)));
    }

    #[test]
    fn successes_are_wanted_by_their_share_and_a_change_reaches_every_clone() {
        let first = log(&AccessLogConfig::default());
        let clone = first.clone();
        let wanted = || (0..10_000).filter(|_| clone.wants(AccessStatus::Http(200), None, Duration::ZERO)).count();
        assert_eq!(wanted(), 10_000);
        fastrand::seed(7);
        first.configure(&AccessLogConfig { success_ratio: 0.1, ..AccessLogConfig::default() });
        assert!((800..1200).contains(&wanted()));
        first.configure(&AccessLogConfig { enabled: false, ..AccessLogConfig::default() });
        assert!(!clone.wants(AccessStatus::Http(500), None, Duration::from_secs(9)));
    }
}
