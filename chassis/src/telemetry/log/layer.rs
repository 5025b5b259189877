//! Turns `tracing` events into lines.
//!
//! A line has the event's fields at its top level. A field whose name is one of the line's own, or that the same event
//! has already used, is written as `fields.<name>`. Lines inside `tracing` spans carry `spans`, outermost first, each
//! with its `name` and fields; a span's fields are formatted once, when they are recorded.

use std::{error::Error, fmt};

use tracing::{
    Event, Subscriber,
    field::{Field, FieldSet, Visit},
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{layer::Context, registry::LookupSpan};

use super::{
    Style,
    line::{Line, with_buffer},
    redact::{HIDDEN, Redactor},
    sink::LineSink,
};
use crate::error::chain;

/// Writes each event as one line to a sink.
#[derive(Debug)]
pub(crate) struct LogLayer {
    style: Style,
    sink: LineSink,
}

impl LogLayer {
    pub(crate) fn new(style: Style, sink: LineSink) -> Self {
        Self { style, sink }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> tracing_subscriber::Layer<S> for LogLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = SpanFields::default();
        attributes.record(&mut SpanVisitor { fields: &mut fields, style: &self.style });
        if let Some(span) = context.span(id) {
            span.extensions_mut().replace(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        // Taken out while it is changed: a value's `Debug` may log or panic, and both come back to the extensions'
        // lock.
        let mut fields = span.extensions_mut().remove::<SpanFields>().unwrap_or_default();
        values.record(&mut SpanVisitor { fields: &mut fields, style: &self.style });
        span.extensions_mut().replace(fields);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        // Levels are ordered by how much they let through: an error is the least.
        let urgent = *metadata.level() <= LevelFilter::WARN;
        with_buffer(|out| {
            let mut line = Line::begin(out, self.style.format, *metadata.level(), metadata.target());
            event.record(&mut EventVisitor {
                line: &mut line,
                redactor: &self.style.redactor,
                fields: metadata.fields(),
            });
            // The SDK speaks of its own mishaps while it changes the current context, which cannot be read then.
            if !metadata.target().starts_with("opentelemetry") {
                line.current_trace();
            }
            if let Some(innermost) = context.event_span(event) {
                write_spans(&mut line, innermost.scope().from_root());
            }
            if self.style.resource_on_lines {
                line.resource(&self.style.resource);
            }
            line.end();
            self.sink.push(out, urgent);
        });
    }
}

fn write_spans<'a, S: LookupSpan<'a> + 'a>(
    line: &mut Line<'_>,
    spans: impl Iterator<Item = tracing_subscriber::registry::SpanRef<'a, S>>,
) {
    let json = line.is_json();
    line.out.extend_from_slice(if json { b",\"spans\":[" } else { b" spans=" });
    for (at, span) in spans.enumerate() {
        if at > 0 {
            line.out.push(if json { b',' } else { b'>' });
        }
        line.out.extend_from_slice(if json { b"{\"name\":" } else { b"" });
        line.string(span.name());
        let extensions = span.extensions();
        let fields = extensions.get::<SpanFields>().map_or(&[][..], |fields| &fields.written);
        if json {
            line.out.extend_from_slice(fields);
            line.out.push(b'}');
        } else if !fields.is_empty() {
            line.out.push(b'{');
            // Each field begins with the space that separates it.
            line.out.extend_from_slice(&fields[1..]);
            line.out.push(b'}');
        }
    }
    if json {
        line.out.push(b']');
    }
}

/// A span's fields as they stand in a line.
#[derive(Default)]
struct SpanFields {
    written: Vec<u8>,
    /// Which field ends where.
    ends: Vec<(usize, usize)>,
}

impl SpanFields {
    /// Takes out what a field said before, so that a name stands only once.
    fn forget(&mut self, field: usize) {
        let Some(at) = self.ends.iter().position(|(of, _)| *of == field) else { return };
        let (_, end) = self.ends.remove(at);
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before].1);
        self.written.drain(start..end);
        for (_, later) in &mut self.ends[at..] {
            *later -= end - start;
        }
    }
}

/// What can be written for a field; the two visitors differ only in the key.
trait Fields {
    /// Lets the value be written behind the field's key.
    fn field(&mut self, field: &Field, value: impl FnOnce(&mut Line<'_>));
}

/// A raw identifier is written without its mark.
fn plain(name: &str) -> &str {
    name.strip_prefix("r#").unwrap_or(name)
}

fn value_or_hidden(line: &mut Line<'_>, redactor: &Redactor, name: &str, value: impl FnOnce(&mut Line<'_>)) {
    if redactor.hides(name) {
        line.string(HIDDEN);
    } else {
        value(line);
    }
}

struct SpanVisitor<'a> {
    fields: &'a mut SpanFields,
    style: &'a Style,
}

impl Fields for SpanVisitor<'_> {
    fn field(&mut self, field: &Field, value: impl FnOnce(&mut Line<'_>)) {
        self.fields.forget(field.index());
        let name = plain(field.name());
        let mut line = Line { out: &mut self.fields.written, format: self.style.format };
        line.foreign_key(if name == "name" { "fields." } else { "" }, name);
        value_or_hidden(&mut line, &self.style.redactor, name, value);
        self.fields.ends.push((field.index(), self.fields.written.len()));
    }
}

struct EventVisitor<'a, 'b> {
    line: &'a mut Line<'b>,
    redactor: &'a Redactor,
    fields: &'static FieldSet,
}

impl EventVisitor<'_, '_> {
    /// How often the event has used a field's name before it.
    fn uses_before(&self, field: &Field) -> usize {
        self.fields.iter().take(field.index()).filter(|earlier| earlier.name() == field.name()).count()
    }

    fn is_message(&self, field: &Field) -> bool {
        field.name() == "message" && self.uses_before(field) == 0
    }
}

/// Whether the line itself has a key of this name.
fn is_own_key(name: &str) -> bool {
    matches!(
        name,
        "timestamp"
            | "level"
            | "target"
            | "trace_id"
            | "span_id"
            | "spans"
            | "stream"
            | "service.name"
            | "service.version"
            | "service.instance.id"
    )
}

impl Fields for EventVisitor<'_, '_> {
    fn field(&mut self, field: &Field, value: impl FnOnce(&mut Line<'_>)) {
        let name = plain(field.name());
        let prefix = match self.uses_before(field) + usize::from(is_own_key(name)) {
            0 => "",
            1 => "fields.",
            // A line has one place for a second value, none for a third.
            _ => return,
        };
        self.line.foreign_key(prefix, name);
        value_or_hidden(self.line, self.redactor, name, value);
    }
}

macro_rules! visit {
    ($($method:ident($type:ty) => $write:ident),*) => {
        $(fn $method(&mut self, field: &Field, value: $type) {
            self.field(field, |line| line.$write(value));
        })*

        fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
            self.field(field, |line| line.formatted(format_args!("{}", WithCauses(value))));
        }
    };
}

impl Visit for SpanVisitor<'_> {
    visit!(
        record_str(&str) => string,
        record_u64(u64) => unsigned,
        record_i64(i64) => signed,
        record_f64(f64) => float,
        record_bool(bool) => boolean
    );

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.field(field, |line| line.formatted(format_args!("{value:?}")));
    }
}

impl Visit for EventVisitor<'_, '_> {
    visit!(record_u64(u64) => unsigned, record_i64(i64) => signed, record_f64(f64) => float, record_bool(bool) => boolean);

    fn record_str(&mut self, field: &Field, value: &str) {
        if self.is_message(field) {
            self.line.message(format_args!("{value}"));
        } else {
            self.field(field, |line| line.string(value));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.is_message(field) {
            self.line.message(format_args!("{value:?}"));
        } else {
            self.field(field, |line| line.formatted(format_args!("{value:?}")));
        }
    }
}

/// An error and what caused it, in one line.
struct WithCauses<'a>(&'a (dyn Error + 'static));

impl fmt::Display for WithCauses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&chain(self.0))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use serde_json::{Value, json};
    use tracing::{error, field, info, info_span, warn};
    use tracing_subscriber::{Layer, layer::SubscriberExt};

    use super::{
        super::{
            LogConfig, fields,
            line::Format,
            tests::{Writes, request, silent, style},
        },
        *,
    };

    /// What is written while `act` runs.
    fn text_of(format: Format, act: impl FnOnce()) -> String {
        let writes = Writes::default();
        let sink = LineSink::new(writes.clone(), 1 << 20, silent()).unwrap();
        let layer = LogLayer::new(Style { format, ..style(&LogConfig::default()) }, sink.clone())
            .with_filter(LevelFilter::INFO);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), act);
        assert!(sink.flush(Duration::from_secs(30)));
        writes.text()
    }

    fn json_of(act: impl FnOnce()) -> Vec<Value> {
        text_of(Format::Json, act).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    const TEXT: Format = Format::Text { colour: false };

    #[test]
    fn an_event_is_one_object_with_its_fields_at_the_top() {
        let line = &json_of(|| {
            let seen = Some(1);
            info!(target: "shop", id = 7_u64, left = -1, ratio = 0.5, ok = true, name = "x", ?seen, r#type = "t", "placed {}", 3);
        })[0];
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
        let mut rest = line.clone();
        rest.as_object_mut().unwrap().remove("timestamp");
        let expected = json!({ "level": "INFO", "target": "shop", "message": "placed 3", "id": 7, "left": -1, "ratio": 0.5,
            "ok": true, "name": "x", "seen": "Some(1)", "type": "t" });
        assert_eq!(rest, expected);
    }

    #[test]
    fn control_characters_in_a_field_cannot_forge_a_line() {
        let forged = "x\n{\"level\":\"ERROR\"}\r\u{1b}[2J\"}";
        let act = || info!(user = forged, shown = %forged, "hello {forged}");
        let lines = json_of(act);
        assert_eq!(lines.len(), 1);
        for key in ["user", "shown"] {
            assert_eq!(lines[0][key], forged);
        }
        let text = text_of(TEXT, act);
        assert_eq!(text.matches(char::is_control).count(), 1, "only the newline at the end: {text:?}");
    }

    #[test]
    fn secrets_named_in_fields_do_not_appear() {
        for format in [Format::Json, TEXT] {
            let text = text_of(format, || {
                let span = info_span!("login", api_key = "hunter2", late_token = field::Empty);
                let _entered = span.enter();
                span.record("late_token", "hunter2");
                info!(password = "hunter2", user.token = %"hunter2", Authorization = ?"hunter2", secret = 2222222_u64, "in");
            });
            assert!(!text.contains("hunter2") && !text.contains("2222222"), "{text}");
            assert_eq!(text.matches("***").count(), 6, "{text}");
        }
    }

    #[test]
    fn a_field_cannot_take_the_place_of_the_lines_own_keys() {
        let text = text_of(Format::Json, || info!(level = "FAKE", trace_id = "fake", a = 1, a = 2, a = 3, "m"));
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["level"], &line["fields.level"]), (&json!("INFO"), &json!("FAKE")));
        assert_eq!((&line["trace_id"], &line["fields.trace_id"]), (&Value::Null, &json!("fake")));
        assert_eq!((&line["a"], &line["fields.a"]), (&json!(1), &json!(2)));
        assert_eq!(text.matches("a\":").count(), 2, "no key stands twice: {text}");
    }

    #[test]
    fn lines_carry_the_spans_around_them_with_their_latest_fields() {
        let lines = json_of(|| {
            let outer = info_span!("outer", order = 1, state = "new", item = 3);
            let _outer = outer.enter();
            outer.record("state", "paid");
            outer.record("order", 12_345);
            let _inner = info_span!("inner", name = "own").entered();
            warn!("deep");
        });
        let expected = json!([{ "name": "outer", "item": 3, "state": "paid", "order": 12_345 },
            { "name": "inner", "fields.name": "own" }]);
        assert_eq!(lines[0]["spans"], expected);
    }

    #[test]
    fn a_text_line_reads_like_one() {
        let text = text_of(TEXT, || {
            let _span = info_span!("outer", order = 1).entered();
            let _inner = info_span!("inner").entered();
            warn!(target: "shop", name = "a b", id = 3, "two words");
        });
        let (time, rest) = text.split_at("2026-11-20T12:34:56.123456Z".len());
        assert!(time.ends_with('Z'), "{text}");
        assert_eq!(rest, "  WARN shop: two words name=\"a b\" id=3 spans=outer{order=1}>inner\n");
        assert!(text_of(Format::Text { colour: true }, || info!("x")).contains("\u{1b}[32mINFO\u{1b}[0m"));
    }

    #[test]
    fn an_error_is_written_with_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot place the order")]
        struct Outer(#[source] std::fmt::Error);
        let outer = Outer(std::fmt::Error);
        let lines = json_of(|| error!(error = &outer as &dyn Error, "failed"));
        assert_eq!(lines[0]["error"], format!("cannot place the order: {}", std::fmt::Error));
    }

    #[test]
    fn a_value_that_logs_while_it_is_written_harms_neither_line() {
        struct Chatty;
        impl fmt::Debug for Chatty {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                super::super::line::with_buffer(|out| out.extend_from_slice(b"scribble"));
                f.write_str("chatty")
            }
        }
        assert_eq!(json_of(|| info!(value = ?Chatty, after = 1, "m"))[0]["value"], "chatty");
    }

    #[test]
    fn a_value_that_panics_leaves_a_note_in_its_line() {
        struct Broken;
        impl fmt::Debug for Broken {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("half \"")?;
                panic!("no more")
            }
        }
        let lines = json_of(|| {
            let _entered = info_span!("outer", value = ?Broken).entered();
            info!(value = ?Broken, after = 1, "m");
            info!("{:?}", Broken);
        });
        let note = "half \"(formatting panicked: no more)";
        assert_eq!((&lines[0]["value"], &lines[0]["after"]), (&json!(note), &json!(1)));
        assert_eq!((&lines[0]["spans"][0]["value"], &lines[1]["message"]), (&json!(note), &json!(note)));
    }

    #[test]
    fn the_trace_of_the_request_is_on_the_line() {
        let (context, trace_id, span_id) = request();
        let lines = json_of(|| {
            info!("before");
            let entered = crate::context::Entered::enter(context);
            info!("during");
            drop(entered);
            info!("after");
        });
        let ids =
            |line: &Value| (line["trace_id"].as_str().map(str::to_owned), line["span_id"].as_str().map(str::to_owned));
        assert_eq!(ids(&lines[0]), (None, None));
        assert_eq!(ids(&lines[1]), (Some(trace_id.to_string()), Some(span_id.to_string())));
        assert_eq!(ids(&lines[2]), (None, None));
    }

    #[test]
    fn the_reference_tells_every_field_that_an_event_has_by_itself() {
        let writes = Writes::default();
        let sink = LineSink::new(writes.clone(), 1 << 20, silent()).unwrap();
        let style = style(&LogConfig { resource: true, ..LogConfig::default() });
        let subscriber = tracing_subscriber::registry().with(LogLayer::new(style, sink));
        tracing::subscriber::with_default(subscriber, || {
            let _entered = crate::context::Entered::enter(request().0);
            info_span!("outer").in_scope(|| info!(order = 7, "placed"));
        });
        let line = serde_json::from_str(&writes.text()).unwrap();
        fields::tests::compare(fields::Kind::Event, &[line], &["order"]);
        for field in fields::FIELDS {
            let own = field.on.contains(&fields::Kind::Event) && field.name != "message";
            assert_eq!(is_own_key(field.name), own || field.name == "stream", "{}", field.name);
        }
    }

    #[test]
    fn an_active_span_goes_before_the_request() {
        use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
        let (context, trace_id, _) = request();
        let own = SpanContext::new(trace_id, SpanId::from(0xabc), TraceFlags::default(), false, TraceState::NONE);
        let other = SpanContext::new(TraceId::INVALID, SpanId::INVALID, TraceFlags::default(), false, TraceState::NONE);
        let lines = json_of(|| {
            let _entered = crate::context::Entered::enter(context);
            let attached = opentelemetry::Context::new().with_remote_span_context(own).attach();
            info!("inside the span");
            drop(attached);
            let _attached = opentelemetry::Context::new().with_remote_span_context(other).attach();
            info!("a span without an id does not count");
        });
        assert_eq!(
            (&lines[0]["trace_id"], &lines[0]["span_id"]),
            (&json!(trace_id.to_string()), &json!("0000000000000abc"))
        );
        assert_eq!(lines[1]["trace_id"], trace_id.to_string());
    }
}
