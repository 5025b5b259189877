//! Logs: one line per event on stdout, JSON for machines or text for people.
//!
//! Three streams share one [`LineSink`]: application events (`tracing`, through the filter), the access log (one line
//! per request, sampled by its own rules) and the audit log ([`super::audit`], never sampled or filtered). Every line
//! written while a request is served carries its `trace_id` and `span_id`.
//!
//! Messages of the `log` crate are not bridged: the families the chassis stands on speak `tracing`. A service that
//! needs the bridge installs it itself; its events then arrive here.

mod access;
pub(crate) mod blame;
mod config;
pub(crate) mod fields;
mod filter;
mod json;
mod layer;
pub(crate) mod line;
mod panic;
pub(crate) mod redact;
mod sink;

use std::{io::IsTerminal, sync::Arc, time::Duration};

use tracing::{Dispatch, Level};
use tracing_subscriber::{Layer, Registry, layer::SubscriberExt, reload};

pub(crate) use self::{
    access::{AccessLog, AccessOutcome, AccessRecord, AccessStatus},
    line::{Format, date_time},
    panic::{caught, count_panic, message as panic_message},
    redact::Redactor,
    sink::{Lost, Report},
};
pub use self::{
    config::{AccessLogConfig, AuditConfig, LogConfig, LogFormat},
    filter::{FilterError, FilterOrigin, FilterStatus, LogControl},
    panic::panics,
    sink::LineSink,
};
use self::{
    layer::LogLayer,
    line::{Line, Resource, key},
    sink::LossLines,
};
use super::audit::{self, AuditLog};
use crate::{error::Error, identity::Identity};

/// A layer beside the log, with a filter of its own: the bridge to OpenTelemetry.
pub(crate) type ExtraLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// How lines look, resolved once for all streams. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Style {
    pub(crate) format: Format,
    pub(crate) redactor: Arc<Redactor>,
    pub(crate) resource: Arc<Resource>,
    pub(crate) resource_on_lines: bool,
}

impl Style {
    /// `terminal` says whether lines go to one, `no_color` whether the variable of that name is set and not empty.
    pub(crate) fn resolve(config: &LogConfig, identity: &Identity, terminal: bool, no_color: bool) -> Self {
        let text = Format::Text { colour: terminal && !no_color };
        let format = match config.format {
            LogFormat::Text => text,
            LogFormat::Auto if terminal => text,
            LogFormat::Auto | LogFormat::Json => Format::Json,
        };
        Self {
            format,
            redactor: Arc::new(Redactor::new(&config.redact)),
            resource: Arc::new(Resource::new(identity)),
            resource_on_lines: config.resource,
        }
    }

    /// What a sink writes about lines it lost.
    pub(crate) fn loss_lines(&self) -> LossLines {
        let format = self.format;
        Box::new(move |lost, out| {
            for (count, level, what) in [(lost.lines, Level::WARN, "log"), (lost.audit, Level::ERROR, "audit")] {
                if count > 0 {
                    let mut text = Vec::new();
                    let mut line = Line::begin(&mut text, format, level, "chassis::log");
                    line.message(format_args!("{count} {what} lines were dropped"));
                    line.key(key!("dropped")).unsigned(count);
                    line.end();
                    out.extend_from_slice(&text);
                    out.push(b'\n');
                }
            }
        })
    }
}

/// Everything that writes lines, as one service runs it.
#[derive(Debug)]
pub(crate) struct Logs {
    pub(crate) sink: LineSink,
    pub(crate) access: AccessLog,
    pub(crate) audit: AuditLog,
    pub(crate) control: LogControl,
}

impl Logs {
    /// Opens the streams, installs the subscriber and the panic hook, and makes the audit log the process's.
    ///
    /// `output` takes the place of standard output.
    ///
    /// # Errors
    /// When the filter or the audit file cannot be taken (exit code 78), or the system gives no thread.
    pub(crate) fn start(
        config: &LogConfig,
        identity: &Identity,
        extra: Option<ExtraLayer>,
        output: Option<LineSink>,
    ) -> Result<Self, Error> {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let style = Style::resolve(config, identity, std::io::stdout().is_terminal(), no_color);
        let sink = match output {
            Some(sink) => sink,
            None => LineSink::stdout(config.buffer.bytes(), Report::Here(style.loss_lines()))?,
        };
        let audit = AuditLog::open(&config.audit, &style, sink.clone())?;
        let control = init(config, &style, &sink, extra)?;
        audit::install(audit.clone());
        let access = AccessLog::new(&config.access, style, sink.clone());
        Ok(Self { sink, access, audit, control })
    }

    /// Takes over what may change while the service runs.
    ///
    /// # Errors
    /// When the filter cannot be read; nothing has changed then.
    pub(crate) fn configure(&self, config: &LogConfig) -> Result<(), FilterError> {
        self.control.configure(&config.filter)?;
        self.access.configure(&config.access);
        Ok(())
    }

    /// Waits until everything logged so far is written, at most `timeout`; holds up the calling thread.
    pub(crate) fn flush(&self, timeout: Duration) -> bool {
        let started = std::time::Instant::now();
        // The audit file first: what it lost is told on stdout.
        let audit = self.audit.flush(timeout);
        self.sink.flush(timeout.saturating_sub(started.elapsed())) && audit
    }
}

/// Makes the chassis's subscriber the process's, and installs the panic hook.
///
/// When there is a subscriber already, it stays: a service that adopts the chassis keeps its logging. The control then
/// says so, and `extra` is not used.
///
/// # Errors
/// When the filter cannot be read (exit code 78).
pub(crate) fn init(
    config: &LogConfig,
    style: &Style,
    sink: &LineSink,
    extra: Option<ExtraLayer>,
) -> Result<LogControl, Error> {
    let (dispatch, control) = subscriber(config, style, sink, extra)?;
    let installed = tracing::dispatcher::set_global_default(dispatch).is_ok();
    // Nobody but the previous hook shows a test why it failed.
    let call_previous = !installed || style.format != Format::Json || cfg!(any(test, feature = "testing"));
    panic::install(sink.clone(), call_previous);
    if installed {
        return Ok(control);
    }
    tracing::warn!(
        "a tracing subscriber was installed before the chassis and stays; log.format, log.filter and log.redact do not apply, \
         and spans of handlers are exported only with chassis::telemetry::tracing_layer() in it"
    );
    if !tracing::enabled!(Level::WARN) {
        hidden();
    }
    Ok(LogControl::new(&config.filter, None))
}

/// Says where the subscriber cannot hide it that the subscriber hides warnings.
#[allow(clippy::print_stderr, reason = "the log is what it is about")]
fn hidden() {
    eprintln!(
        "chassis: the tracing subscriber that was installed before the chassis lets no warnings of the chassis through. With \
         tracing_subscriber::fmt::init() that is so when the feature `env-filter` of tracing-subscriber is on and RUST_LOG is \
         not set: set RUST_LOG=info, or build the subscriber with a filter of your own"
    );
}

/// The subscriber that [`init`] installs, for those who install it elsewhere or for a while.
///
/// # Errors
/// When the filter cannot be read (exit code 78).
pub(crate) fn subscriber(
    config: &LogConfig,
    style: &Style,
    sink: &LineSink,
    extra: Option<ExtraLayer>,
) -> Result<(Dispatch, LogControl), Error> {
    let filter = filter::parse(&config.filter).map_err(|error| Error::config(format!("log.filter: {error}")))?;
    let (filter, handle) = reload::Layer::new(filter);
    let log = LogLayer::new(style.clone(), sink.clone()).with_filter(filter).boxed();
    // A list, because the filters of its members are independent: what the log does not want still reaches the others.
    let layers: Vec<ExtraLayer> = std::iter::once(log).chain(extra).collect();
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(layers));
    let control = LogControl::new(&config.filter, Some((handle, dispatch.downgrade())));
    Ok((dispatch, control))
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Mutex;

    use opentelemetry::trace::{SpanId, TraceFlags, TraceId};
    use serde_json::Value;
    use tracing::{Event, Subscriber, debug, error, info, level_filters::LevelFilter};
    use tracing_subscriber::layer::Context;

    pub(crate) use super::sink::tests::{Writes, silent};
    use super::*;
    use crate::{
        context::{RequestContext, TraceContext},
        identity::BuildInfo,
    };

    pub(crate) fn identity() -> Identity {
        Identity {
            service: "orders".into(),
            version: "1.2.3".into(),
            instance_id: "i-7".into(),
            environment: "test".into(),
            build: BuildInfo { name: "orders", version: "1.2.3", git_commit: None, built_at: "" },
        }
    }

    pub(crate) fn style(config: &LogConfig) -> Style {
        Style::resolve(config, &identity(), false, false)
    }

    /// A request with ids of its own.
    pub(crate) fn request() -> (RequestContext, TraceId, SpanId) {
        let (trace_id, span_id) = (TraceId::from(0x1234_5678_9abc_def0), SpanId::from(0xfeed));
        let trace = TraceContext { trace_id, span_id, parent_id: None, flags: TraceFlags::SAMPLED, state: None };
        (RequestContext::of_trace(trace), trace_id, span_id)
    }

    /// A whole subscriber whose lines can be read.
    pub(crate) struct Captured {
        pub(crate) control: LogControl,
        pub(crate) sink: LineSink,
        dispatch: Dispatch,
        writes: Writes,
    }

    impl Captured {
        pub(crate) fn new(config: &LogConfig) -> Self {
            Self::with_extra(config, None)
        }

        fn with_extra(config: &LogConfig, extra: Option<ExtraLayer>) -> Self {
            let writes = Writes::default();
            let sink = LineSink::new(writes.clone(), 1 << 20, silent()).unwrap();
            let (dispatch, control) = subscriber(config, &style(config), &sink, extra).unwrap();
            Self { control, sink, dispatch, writes }
        }

        pub(crate) fn run(&self, act: impl FnOnce()) {
            tracing::dispatcher::with_default(&self.dispatch, act);
        }

        pub(crate) fn lines(&self) -> Vec<Value> {
            assert!(self.sink.flush(Duration::from_secs(30)));
            self.writes.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        }

        pub(crate) fn messages(&self) -> Vec<String> {
            self.lines().iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect()
        }
    }

    #[derive(Clone, Default)]
    struct Levels(Arc<Mutex<Vec<Level>>>);

    impl<S: Subscriber> Layer<S> for Levels {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.0.lock().unwrap().push(*event.metadata().level());
        }
    }

    #[test]
    fn the_log_filter_and_the_extra_layers_filter_do_not_touch_each_other() {
        let seen = Levels::default();
        let config = LogConfig { filter: "error".into(), ..LogConfig::default() };
        let extra = seen.clone().with_filter(LevelFilter::INFO).boxed();
        let log = Captured::with_extra(&config, Some(extra));
        let act = || {
            debug!("debug");
            info!("info");
            error!("error");
        };
        log.run(act);
        log.control.override_filter("debug", None).unwrap();
        log.run(act);
        assert_eq!(log.messages(), ["error", "debug", "info", "error"]);
        assert_eq!(*seen.0.lock().unwrap(), [Level::INFO, Level::ERROR, Level::INFO, Level::ERROR]);
    }

    #[test]
    fn a_bad_filter_refuses_the_start() {
        let config = LogConfig { filter: "shop=loud".into(), ..LogConfig::default() };
        let sink = LineSink::new(Writes::default(), 1 << 20, silent()).unwrap();
        let error = subscriber(&config, &style(&config), &sink, None).unwrap_err();
        assert_eq!(error.exit(), crate::error::Exit::Config);
        assert!(error.to_string().contains("log.filter") && error.to_string().contains("shop=loud"), "{error}");
    }

    #[test]
    fn auto_is_text_on_a_terminal_and_colours_unless_told_not_to() {
        let format = |format, terminal, no_color| {
            Style::resolve(&LogConfig { format, ..LogConfig::default() }, &identity(), terminal, no_color).format
        };
        assert_eq!(format(LogFormat::Auto, false, false), Format::Json);
        assert_eq!(format(LogFormat::Auto, true, false), Format::Text { colour: true });
        assert_eq!(format(LogFormat::Auto, true, true), Format::Text { colour: false });
        assert_eq!(format(LogFormat::Text, false, false), Format::Text { colour: false });
        assert_eq!(format(LogFormat::Json, true, false), Format::Json);
    }

    #[test]
    fn the_instance_is_on_the_line_when_asked_for() {
        let log = Captured::new(&LogConfig { resource: true, ..LogConfig::default() });
        log.run(|| info!("m"));
        assert_eq!(log.lines()[0]["service.instance.id"], "i-7");
    }

    #[test]
    fn losses_are_told_in_lines_of_their_own() {
        let mut out = Vec::new();
        style(&LogConfig::default()).loss_lines()(Lost { lines: 3, audit: 1 }, &mut out);
        let lines: Vec<Value> =
            String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let shown: Vec<_> =
            lines.iter().map(|l| (l["level"].as_str().unwrap(), l["message"].as_str().unwrap())).collect();
        assert_eq!(shown, [("WARN", "3 log lines were dropped"), ("ERROR", "1 audit lines were dropped")]);
    }
}
