//! The audit log: who did what to what, and how it ended.
//!
//! A stream of its own. Its lines are never sampled and pass through no filter; each has a `sequence` number, so that a
//! missing line shows. They go to stdout among the other lines, marked with `"stream":"audit"`, or to a file
//! (`log.audit.file`).
//!
//! A line is written at once. When the buffer is full it takes room that other lines cannot have, then waits for
//! `log.audit.wait`, and only then is given up, counted and reported by an error line. Lines reach the operating
//! system, not necessarily the disk: a crash of the machine may lose the last of them.

use std::{
    fmt,
    fs::OpenOptions,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tracing::Level;

use super::log::{
    AuditConfig, Format, LineSink, Lost, Redactor, Report, Style,
    line::{Line, key, with_buffer},
    redact::HIDDEN,
};
use crate::error::Error;

/// How an action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Success,
    /// It was not allowed.
    Denied,
    /// It was allowed and did not come about.
    Failure,
}

impl Outcome {
    /// The word in the line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Denied => "denied",
            Self::Failure => "failure",
        }
    }
}

/// A further fact about an action: whatever serde can write as JSON.
pub trait Fact {
    /// The value; the reason when there is none.
    ///
    /// # Errors
    /// When serde cannot write the value as JSON.
    fn to_json(&self) -> Result<serde_json::Value, serde_json::Error>;
}

impl<T: serde::Serialize> Fact for T {
    fn to_json(&self) -> Result<serde_json::Value, serde_json::Error> {
        serde_json::to_value(self)
    }
}

/// One action. [`audit!`](crate::audit) writes it shorter.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    /// Who acted: a user, a service, a key.
    pub actor: &'a dyn fmt::Display,
    /// What was done, in the service's own words: `order.placed`.
    pub action: &'a str,
    /// What it was done to.
    pub object: &'a dyn fmt::Display,
    /// How it ended.
    pub outcome: Outcome,
    /// What else is worth knowing. Values under a name of `log.redact` are hidden, at any depth.
    pub fields: &'a [(&'a str, &'a dyn Fact)],
}

impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("action", &self.action).field("outcome", &self.outcome).finish_non_exhaustive()
    }
}

/// What waits for an audit file beside the room every sink keeps for audit lines. Chosen: a disk's hiccup.
const FILE_BUFFER: usize = 1024 * 1024;

const TARGET: &str = "chassis::audit";

/// Writes actions to their stream. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct AuditLog {
    sink: LineSink,
    style: Style,
    wait: Duration,
    /// Whether the sink carries nothing but audit lines.
    own_sink: bool,
    sequence: Arc<AtomicU64>,
}

impl AuditLog {
    /// Opens the stream: the file when there is one, else `stdout`.
    ///
    /// # Errors
    /// When the file cannot be opened for appending (exit code 78), or the system gives no thread.
    pub(crate) fn open(config: &AuditConfig, style: &Style, stdout: LineSink) -> Result<Self, Error> {
        let mut style = style.clone();
        let sink = match &config.file {
            None => stdout,
            Some(path) => {
                let file = OpenOptions::new().append(true).create(true).open(path).map_err(|error| {
                    let path = path.display();
                    let todo = "create its folder and let the service write there";
                    Error::config(format!("log.audit.file: cannot append to {path}; {todo}")).caused_by(error)
                })?;
                let lines = style.loss_lines();
                style.format = Format::Json;
                // Whatever a file of audit lines loses is an audit line.
                let lines =
                    move |lost: Lost, out: &mut Vec<u8>| lines(Lost { lines: 0, audit: lost.lines + lost.audit }, out);
                LineSink::new(file, FILE_BUFFER, Report::To(stdout, Box::new(lines)))?
            }
        };
        Ok(Self { sink, style, wait: config.wait.get(), own_sink: config.file.is_some(), sequence: Arc::default() })
    }

    /// Writes one action; `false` when there was no room for it within the wait.
    pub(crate) fn record(&self, event: &Event<'_>) -> bool {
        with_buffer(|out| {
            let mut line = Line::begin(out, self.style.format, Level::INFO, TARGET);
            line.key(key!("stream")).string("audit");
            line.key(key!("sequence")).unsigned(self.sequence.fetch_add(1, Ordering::Relaxed));
            line.key(key!("actor")).formatted(format_args!("{}", event.actor));
            line.key(key!("action")).string(event.action);
            line.key(key!("object")).formatted(format_args!("{}", event.object));
            line.key(key!("outcome")).string(event.outcome.as_str());
            if !event.fields.is_empty() {
                line.key(key!("fields")).json(&fields(event, &self.style.redactor));
            }
            line.current_trace();
            line.resource(&self.style.resource);
            line.end();
            self.sink.push_audit(out, self.wait)
        })
    }

    /// How many actions did not get out since the start.
    pub(crate) fn dropped(&self) -> u64 {
        // On stdout only those that found no room can be told from other lines.
        if self.own_sink { self.sink.dropped() } else { self.sink.dropped_audit() }
    }

    /// Waits until every action recorded so far is written, at most `timeout`; holds up the calling thread.
    pub(crate) fn flush(&self, timeout: Duration) -> bool {
        self.sink.flush(timeout)
    }
}

/// The further facts as a JSON object, without the secrets among them.
fn fields(event: &Event<'_>, redactor: &Redactor) -> serde_json::Value {
    let mut fields = serde_json::Map::new();
    for (name, fact) in event.fields {
        let value = fact.to_json().unwrap_or_else(|error| format!("cannot be written as JSON: {error}").into());
        fields.insert((*name).to_owned(), value);
    }
    let mut fields = serde_json::Value::Object(fields);
    hide_secrets(&mut fields, redactor);
    fields
}

fn hide_secrets(value: &mut serde_json::Value, redactor: &Redactor) {
    match value {
        serde_json::Value::Object(members) => {
            for (name, value) in members {
                if redactor.hides(name) {
                    *value = HIDDEN.into();
                } else {
                    hide_secrets(value, redactor);
                }
            }
        }
        serde_json::Value::Array(values) => values.iter_mut().for_each(|value| hide_secrets(value, redactor)),
        _ => {}
    }
}

/// The process's audit log. A later start in the same process (a test's) takes the place of the earlier one.
static INSTALLED: ArcSwapOption<AuditLog> = ArcSwapOption::const_empty();

/// Makes `log` the one that [`record`] writes to.
pub(crate) fn install(log: AuditLog) {
    INSTALLED.store(Some(Arc::new(log)));
}

/// Records one action; `false` when its line had to be given up, which is also counted and reported.
///
/// Where no chassis runs, in a unit test of a handler, the action becomes a `tracing` event with target
/// `chassis::audit`, without its further facts.
pub fn record(event: &Event<'_>) -> bool {
    let Some(log) = &*INSTALLED.load() else {
        let Event { actor, action, object, outcome, .. } = event;
        tracing::info!(target: "chassis::audit", %actor, action, %object, outcome = outcome.as_str(), "audit");
        return true;
    };
    log.record(event)
}

/// Records an action in the audit log.
///
/// `actor`, `action`, `object` and `outcome` come first, in this order; further facts may follow, each anything that
/// serde can write. Gives `false` when the line had to be given up (see [`telemetry::audit`](crate::telemetry::audit)).
///
/// ```
/// use chassis::telemetry::audit::Outcome;
///
/// let (user, order) = ("ada", 7);
/// chassis::audit!(actor = user, action = "order.placed", object = order, outcome = Outcome::Success, total = 12.5);
/// ```
#[macro_export]
macro_rules! audit {
    (actor = $actor:expr, action = $action:expr, object = $object:expr, outcome = $outcome:expr
     $(, $name:ident = $value:expr)* $(,)?) => {
        $crate::telemetry::audit::record(&$crate::telemetry::audit::Event {
            actor: &$actor,
            action: $action,
            object: &$object,
            outcome: $outcome,
            fields: &[$((::core::stringify!($name), &$value as &dyn $crate::telemetry::audit::Fact)),*],
        })
    };
    ($($other:tt)*) => {
        ::core::compile_error!("expected audit!(actor = …, action = …, object = …, outcome = …, further = …), in this order")
    };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        context::Entered,
        telemetry::log::{
            LogConfig, fields,
            tests::{Writes, request, silent, style},
        },
    };

    fn open(config: &AuditConfig) -> (AuditLog, LineSink, Writes) {
        let writes = Writes::default();
        let sink = LineSink::new(writes.clone(), 1 << 20, silent()).unwrap();
        let log = AuditLog::open(config, &style(&LogConfig::default()), sink.clone()).unwrap();
        (log, sink, writes)
    }

    fn event<'a>(fields: &'a [(&'a str, &'a dyn Fact)]) -> Event<'a> {
        Event { actor: &"ada", action: "order.placed", object: &7, outcome: Outcome::Denied, fields }
    }

    fn lines(text: &str) -> Vec<Value> {
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn an_action_is_a_line_with_its_trace_its_instance_and_its_place_in_the_sequence() {
        let (log, _, writes) = open(&AuditConfig::default());
        let (context, trace_id, span_id) = request();
        {
            let _entered = Entered::enter(context);
            assert!(log.record(&event(&[("total", &12.5), ("items", &["a", "b"])])));
        }
        assert!(log.record(&event(&[])));
        assert!(log.flush(Duration::from_secs(30)));
        let mut lines = lines(&writes.text());
        assert_eq!(lines[1]["sequence"], 1);
        fields::tests::compare(fields::Kind::Audit, &lines[..1], &[]);
        lines[0].as_object_mut().unwrap().remove("timestamp").unwrap();
        let expected = json!({
            "level": "INFO", "target": "chassis::audit", "stream": "audit", "sequence": 0,
            "actor": "ada", "action": "order.placed", "object": "7", "outcome": "denied",
            "fields": { "total": 12.5, "items": ["a", "b"] },
            "trace_id": trace_id.to_string(), "span_id": span_id.to_string(),
            "service.name": "orders", "service.version": "1.2.3", "service.instance.id": "i-7",
        });
        assert_eq!(lines[0], expected);
    }

    #[test]
    fn secrets_are_hidden_at_any_depth_and_nothing_forges_a_line() {
        let (log, _, writes) = open(&AuditConfig::default());
        let nested = json!([{ "user": { "password": "hunter2", "name": "x\ny" } }]);
        let unwritable = std::collections::HashMap::from([(vec![1], 2)]);
        log.record(&Event {
            actor: &"a\n{}",
            ..event(&[("api_key", &"hunter2"), ("nested", &nested), ("bad", &unwritable)])
        });
        assert!(log.flush(Duration::from_secs(30)));
        let text = writes.text();
        assert!(!text.contains("hunter2"), "{text}");
        assert_eq!(text.matches("***").count(), 2);
        assert_eq!(lines(&text)[0]["actor"], "a\n{}");
    }

    fn scratch(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("chassis-audit-{}-{name}", std::process::id()))
    }

    #[test]
    fn a_file_is_appended_to_and_stdout_stays_clean() {
        let path = scratch("append");
        std::fs::write(&path, "{\"before\":true}\n").unwrap();
        let (log, stdout, writes) = open(&AuditConfig { file: Some(path.clone()), ..AuditConfig::default() });
        log.record(&event(&[]));
        assert!(log.flush(Duration::from_secs(30)) && stdout.flush(Duration::from_secs(30)));
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((lines(&text).len(), &lines(&text)[1]["actor"]), (2, &json!("ada")));
        assert_eq!((writes.text().as_str(), log.dropped()), ("", 0));
    }

    #[test]
    fn a_file_that_cannot_be_opened_refuses_the_start() {
        let config = AuditConfig { file: Some(scratch("no-such-folder").join("audit.log")), ..AuditConfig::default() };
        let sink = LineSink::new(Writes::default(), 1 << 20, silent()).unwrap();
        let error = AuditLog::open(&config, &style(&LogConfig::default()), sink).unwrap_err();
        assert_eq!(error.exit(), crate::error::Exit::Config);
        assert!(error.to_string().contains("log.audit.file") && error.to_string().contains("audit.log"), "{error}");
    }

    #[test]
    fn what_a_file_refuses_is_an_error_line_on_stdout() {
        // The device that is always full.
        let config = AuditConfig { file: Some("/dev/full".into()), ..AuditConfig::default() };
        let (log, stdout, writes) = open(&config);
        log.record(&event(&[]));
        assert!(log.flush(Duration::from_secs(30)));
        assert_eq!(log.dropped(), 1);
        // Its report is out once its writer has ended.
        drop(log);
        assert!(stdout.flush(Duration::from_secs(30)));
        let line = &lines(&writes.text())[0];
        assert_eq!((&line["level"], &line["message"]), (&json!("ERROR"), &json!("1 audit lines were dropped")));
    }

    #[test]
    fn the_macro_records_in_the_installed_log_past_every_filter() {
        let (log, _, writes) = open(&AuditConfig::default());
        install(log.clone());
        let no_subscriber = tracing::subscriber::NoSubscriber::default();
        let recorded = tracing::subscriber::with_default(no_subscriber, || {
            crate::audit!(
                actor = "ada",
                action = "order.placed",
                object = 7,
                outcome = Outcome::Success,
                total = 12.5,
                card_token = "t"
            )
        });
        INSTALLED.store(None);
        assert!(recorded && log.flush(Duration::from_secs(30)));
        let line = &lines(&writes.text())[0];
        assert_eq!(
            (&line["outcome"], &line["fields"]),
            (&json!("success"), &json!({ "total": 12.5, "card_token": "***" }))
        );
    }
}
