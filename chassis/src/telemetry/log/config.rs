//! What a service may say about its logs.

use std::{
    fs::OpenOptions,
    io,
    path::{Path, PathBuf},
};

use crate::config::{ByteSize, ConfigProblem, Duration};

use super::{filter, redact};

/// `[log]`: what is logged, in what form, and what must never be.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// How a line looks: `json`, `text`, or `auto`.
    ///
    /// `auto` writes text when stdout is a terminal and JSON otherwise. Text is coloured on a terminal unless
    /// `NO_COLOR` is set.
    pub format: LogFormat,
    /// Which events are logged, as `tracing` filter directives: `info`, `warn,orders=debug`.
    ///
    /// A blank text means the default. `RUST_LOG`, when set, takes this key's place. The access log and the audit log
    /// do not pass through it. State changes are logged at info, single requests at debug; what the OpenTelemetry SDK
    /// tells of its own workings is left out.
    #[schemars(extend("x-reloadable" = true))]
    pub filter: String,
    /// Names of fields and query parameters whose value is written as `***`.
    ///
    /// A name matches whole, or behind `_`, `-`, `.`: `token` also hides `csrf_token` and `user.token`. Case does not
    /// matter. Setting this replaces the default list, the usual names of credentials. What is inside a message or a
    /// `Debug` text cannot be found.
    pub redact: Vec<String>,
    /// Whether each line carries `service.name`, `service.version` and `service.instance.id`.
    ///
    /// Off, since the collector usually knows where a line came from. Audit lines always carry them.
    pub resource: bool,
    /// How many bytes of lines may wait for stdout; over it lines are dropped, counted and reported.
    ///
    /// A stdout that nobody reads never holds a request up. At most twice this is held in memory: one part fills while
    /// the other is written. Chosen: about 10,000 lines, a second of a busy service.
    #[schemars(extend("x-minimum" = "64KiB", "x-maximum" = "256MiB"))]
    pub buffer: ByteSize,
    /// One line per request.
    pub access: AccessLogConfig,
    /// One line per action that must be accounted for.
    pub audit: AuditConfig,
}

/// 4 MiB: about 10,000 lines of 400 bytes.
pub(crate) const DEFAULT_BUFFER: ByteSize = ByteSize::mib(4);

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Auto,
            filter: filter::DEFAULT_FILTER.to_owned(),
            redact: redact::DEFAULT_NAMES.map(str::to_owned).to_vec(),
            resource: false,
            buffer: DEFAULT_BUFFER,
            access: AccessLogConfig::default(),
            audit: AuditConfig::default(),
        }
    }
}

impl LogConfig {
    /// Every mistake that the schema cannot see.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let filter = filter::parse(&self.filter).err().map(|error| ("log.filter", error.to_string()));
        let redact = self
            .redact
            .iter()
            .any(|name| name.trim().is_empty())
            .then(|| ("log.redact", "found an empty name, expected the name of a field; take it out".to_owned()));
        filter
            .into_iter()
            .chain(redact)
            .map(|(key, message)| ConfigProblem { key: key.to_owned(), message, origin: None })
            .collect()
    }
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text when stdout is a terminal, JSON otherwise.
    Auto,
    /// One JSON object per line.
    Json,
    /// A line for people.
    Text,
}

/// `[log.access]`: one line per request.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLogConfig {
    /// Whether requests are logged at all.
    ///
    /// A probe that succeeds in time (`/livez`, `/readyz`, `/startupz`, `grpc.health.v1.Health/Check`) never is: it comes
    /// every few seconds and says what nobody asks for.
    #[schemars(extend("x-reloadable" = true))]
    pub enabled: bool,
    /// The share of requests without a failure that is logged, from 0 to 1.
    ///
    /// Failures (a server error, a refusal) and slow requests are always logged. Lower it where the volume costs more
    /// than it tells.
    #[schemars(range(min = 0.0, max = 1.0), extend("x-reloadable" = true))]
    pub success_ratio: f64,
    /// From which duration on a request counts as slow and is always logged.
    ///
    /// Chosen: an order of magnitude over what a caller expects of a service.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "1h", "x-reloadable" = true))]
    pub slow: Duration,
    /// Whether the query string is logged, with the values of the names in `log.redact` hidden.
    ///
    /// Off, since query strings carry personal data and credentials under names that nobody foresaw.
    #[schemars(extend("x-reloadable" = true))]
    pub query: bool,
}

impl Default for AccessLogConfig {
    fn default() -> Self {
        Self { enabled: true, success_ratio: 1.0, slow: Duration::from_secs(1), query: false }
    }
}

/// `[log.audit]`: who did what to what, and how it ended.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuditConfig {
    /// The file that audit lines are appended to, as JSON. A file that cannot be opened stops the start.
    ///
    /// The service never truncates or renames it; rotate it by copying and truncating. Without one they go to stdout
    /// among the other lines, marked with `"stream":"audit"`.
    pub file: Option<PathBuf>,
    /// How long recording an action waits for room before its line is given up, counted and reported.
    ///
    /// Audit lines have 1 MiB of room that other lines cannot take, so this happens only when nobody reads stdout (or
    /// the disk hangs) for long. The wait holds up the thread that records. Chosen: long enough for a
    /// short stall, short enough that a dead log reader does not stop the service. `0` never waits.
    #[schemars(extend("x-minimum" = "0s", "x-maximum" = "10s"))]
    pub wait: Duration,
}

impl AuditConfig {
    /// Why the file cannot be appended to, as far as it can be seen without making it.
    pub(crate) fn problem(&self) -> Option<String> {
        let file = self.file.as_deref()?;
        let folder = match file.parent() {
            Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
            Some(folder) => folder,
            None => Path::new("/"),
        };
        let path = file.display();
        if file.as_os_str().is_empty() || file.is_dir() {
            return Some(format!(
                "found {path:?}, expected a file; name one in a folder that the service may write to"
            ));
        }
        if !folder.is_dir() {
            let folder = folder.display();
            return Some(format!(
                "found {path}, and there is no folder {folder}; create it and let the service write there"
            ));
        }
        // Opened as the start does it, but for a file that is not there yet.
        let opened = OpenOptions::new().append(true).open(file);
        let error = opened.err().filter(|error| error.kind() != io::ErrorKind::NotFound)?;
        Some(format!("cannot append to {path}: {error}; let the service write there"))
    }
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { file: None, wait: Duration::from_millis(50) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn defaults_have_no_problems() {
        assert_eq!(LogConfig::default().problems(), []);
    }

    #[test]
    fn every_mistake_is_named_with_its_key() {
        let config = LogConfig { filter: "info,orders=lots".into(), redact: vec![" ".into()], ..LogConfig::default() };
        let problems = config.problems();
        assert_eq!(problems.iter().map(|p| p.key.as_str()).collect::<Vec<_>>(), ["log.filter", "log.redact"]);
        assert!(problems[0].message.contains("orders=lots"), "{}", problems[0].message);
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(serde_json::from_str::<LogConfig>(r#"{"acces":{}}"#).is_err());
        let config: LogConfig = serde_json::from_str(r#"{"format":"json","access":{"slow":"2s"}}"#).unwrap();
        assert_eq!((config.format, config.access.slow), (LogFormat::Json, Duration::from_secs(2)));
    }
}
