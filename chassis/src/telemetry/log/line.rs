//! One log line being written, in either format.

use std::{
    cell::Cell,
    fmt::{self, Write},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use opentelemetry::trace::{SpanId, TraceContextExt, TraceId};
use tracing::Level;

use super::{
    json::{self, Escape, Printable},
    panic::{caught, count_panic},
};
use crate::{context::RequestContext, identity::Identity};

/// How lines look, resolved from the configuration and the surroundings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// One JSON object per line.
    Json,
    /// A line for people.
    Text {
        /// Whether the level is coloured.
        colour: bool,
    },
}

/// A key known when the program is built, in both spellings.
pub(crate) struct Key {
    pub(crate) json: &'static str,
    pub(crate) text: &'static str,
}

/// Makes a [`Key`] from a literal without quotes or control characters.
macro_rules! key {
    ($name:literal) => {
        &$crate::telemetry::log::line::Key { json: concat!(",\"", $name, "\":"), text: concat!(" ", $name, "=") }
    };
}
pub(crate) use key;

/// A line in the making. A key is followed by exactly one value.
///
/// The small methods are always inlined: where the format is a constant, as in the access log, a key becomes a copy of
/// known length.
pub(crate) struct Line<'a> {
    pub(crate) out: &'a mut Vec<u8>,
    pub(crate) format: Format,
}

impl<'a> Line<'a> {
    /// Empties the buffer and starts a line with time, level and target.
    #[inline(always)]
    pub(crate) fn begin(out: &'a mut Vec<u8>, format: Format, level: Level, target: &str) -> Self {
        out.clear();
        let word = level.as_str().as_bytes();
        match format {
            Format::Json => {
                out.extend_from_slice(b"{\"timestamp\":\"");
                timestamp(out);
                out.extend_from_slice(b"\",\"level\":\"");
                out.extend_from_slice(word);
                out.extend_from_slice(b"\",\"target\":\"");
                json::escape(out, target);
                out.push(b'"');
            }
            Format::Text { colour } => {
                timestamp(out);
                out.extend_from_slice(if word.len() == 4 { b"  " } else { b" " });
                out.extend_from_slice(if colour { colour_of(level) } else { b"" });
                out.extend_from_slice(word);
                out.extend_from_slice(if colour { b"\x1b[0m " } else { b" " });
                // Formatting into memory cannot fail.
                let _ = Printable(out).write_str(target);
                out.push(b':');
            }
        }
        Self { out, format }
    }

    #[inline(always)]
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    #[inline(always)]
    pub(crate) fn key(&mut self, key: &Key) -> &mut Self {
        self.out.extend_from_slice(if self.is_json() { key.json } else { key.text }.as_bytes());
        self
    }

    /// A key that comes from elsewhere, with a prefix that keeps it apart from the line's own keys.
    pub(crate) fn foreign_key(&mut self, prefix: &str, name: &str) -> &mut Self {
        if self.is_json() {
            self.out.extend_from_slice(b",\"");
            self.out.extend_from_slice(prefix.as_bytes());
            json::escape(self.out, name);
            self.out.extend_from_slice(b"\":");
        } else {
            self.out.push(b' ');
            self.out.extend_from_slice(prefix.as_bytes());
            let _ = Printable(self.out).write_str(name);
            self.out.push(b'=');
        }
        self
    }

    #[inline(always)]
    pub(crate) fn string(&mut self, value: &str) {
        if self.is_json() {
            self.out.push(b'"');
            json::escape(self.out, value);
            self.out.push(b'"');
        } else if value.is_empty() || value.contains([' ', '"', '=']) {
            // `Debug` of a text quotes it and spells control characters out.
            let _ = write!(Printable(self.out), "{value:?}");
        } else {
            let _ = Printable(self.out).write_str(value);
        }
    }

    /// A word of the program's own, without anything to escape.
    #[inline(always)]
    pub(crate) fn word(&mut self, word: &'static str) {
        let quote: &[u8] = if self.is_json() { b"\"" } else { b"" };
        self.out.extend_from_slice(quote);
        self.out.extend_from_slice(word.as_bytes());
        self.out.extend_from_slice(quote);
    }

    /// A value that formats itself; it may contain anything.
    ///
    /// A panic of its `Display` or `Debug` is counted, and noted in its place: logging ends no work.
    pub(crate) fn formatted(&mut self, value: fmt::Arguments<'_>) {
        let json = self.is_json();
        if json {
            self.out.push(b'"');
        }
        if let Err(panic) = caught(|| self.write(value)) {
            count_panic();
            self.write(format_args!("(formatting panicked: {})", panic.message));
        }
        if json {
            self.out.push(b'"');
        }
    }

    fn write(&mut self, value: fmt::Arguments<'_>) {
        // An error here is the value's own: what it has written so far stands.
        let _ = if self.is_json() { Escape(self.out).write_fmt(value) } else { Printable(self.out).write_fmt(value) };
    }

    /// The event's message: in text it stands alone, before the fields.
    pub(crate) fn message(&mut self, message: fmt::Arguments<'_>) {
        if self.is_json() {
            self.out.extend_from_slice(b",\"message\":");
        } else {
            self.out.push(b' ');
        }
        self.formatted(message);
    }

    #[inline(always)]
    pub(crate) fn unsigned(&mut self, value: u64) {
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    pub(crate) fn signed(&mut self, value: i64) {
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    pub(crate) fn float(&mut self, value: f64) {
        // JSON has no word for the others, so they become texts.
        if value.is_finite() || !self.is_json() {
            let _ = write!(Escape(self.out), "{value:?}");
        } else {
            self.formatted(format_args!("{value:?}"));
        }
    }

    #[inline(always)]
    pub(crate) fn boolean(&mut self, value: bool) {
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    pub(crate) fn json(&mut self, value: &serde_json::Value) {
        let value = value.to_string();
        if self.is_json() {
            self.out.extend_from_slice(value.as_bytes());
        } else {
            let _ = Printable(self.out).write_str(&value);
        }
    }

    /// Seconds with six decimals.
    #[inline(always)]
    pub(crate) fn seconds(&mut self, value: Duration) {
        self.unsigned(value.as_secs());
        self.out.push(b'.');
        six_digits(self.out, value.subsec_micros());
    }

    /// The ids of the trace and span that the line belongs to.
    #[inline(always)]
    pub(crate) fn trace(&mut self, trace_id: TraceId, span_id: SpanId) {
        let quote: &[u8] = if self.is_json() { b"\"" } else { b"" };
        self.key(key!("trace_id")).out.extend_from_slice(quote);
        json::hex(self.out, &trace_id.to_bytes());
        self.out.extend_from_slice(quote);
        self.key(key!("span_id")).out.extend_from_slice(quote);
        json::hex(self.out, &span_id.to_bytes());
        self.out.extend_from_slice(quote);
    }

    /// The ids of what the running task works on, when it works on something traced.
    #[inline]
    pub(crate) fn current_trace(&mut self) {
        if let Some((trace_id, span_id)) = current_trace() {
            self.trace(trace_id, span_id);
        }
    }

    pub(crate) fn resource(&mut self, resource: &Resource) {
        self.out.extend_from_slice(if self.is_json() { &resource.json } else { &resource.text });
    }

    #[inline(always)]
    pub(crate) fn end(self) {
        if self.is_json() {
            self.out.push(b'}');
        }
    }
}

/// Who writes the lines, ready to be appended.
#[derive(Debug, Default)]
pub(crate) struct Resource {
    json: Box<[u8]>,
    text: Box<[u8]>,
}

impl Resource {
    pub(crate) fn new(identity: &Identity) -> Self {
        let written = |format| {
            let mut out = Vec::new();
            let mut line = Line { out: &mut out, format };
            line.key(key!("service.name")).string(&identity.service);
            line.key(key!("service.version")).string(&identity.version);
            line.key(key!("service.instance.id")).string(&identity.instance_id);
            out.into_boxed_slice()
        };
        Self { json: written(Format::Json), text: written(Format::Text { colour: false }) }
    }
}

/// The innermost OpenTelemetry span, else the request being served.
pub(crate) fn current_trace() -> Option<(TraceId, SpanId)> {
    let span = opentelemetry::Context::map_current(|context| {
        if !context.has_active_span() {
            return None;
        }
        let span = context.span();
        let span = span.span_context();
        span.is_valid().then(|| (span.trace_id(), span.span_id()))
    });
    span.or_else(|| RequestContext::with_current(|request| request.map(|r| (r.trace().trace_id, r.trace().span_id))))
}

/// A buffer above this is given back rather than kept for the thread's next line.
const KEEP_CAPACITY: usize = 64 * 1024;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static SECOND: Cell<(u64, [u8; 19])> = const { Cell::new((u64::MAX, [0; 19])) };
}

/// Lends the thread's buffer. A line written while another is being written (by a value's own `Debug`) gets a fresh
/// one.
#[inline]
pub(crate) fn with_buffer<R>(write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    // A thread that is ending has no buffer any more.
    let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
    let result = write(&mut buffer);
    if buffer.capacity() <= KEEP_CAPACITY {
        let _ = BUFFER.try_with(|cell| cell.set(buffer));
    }
    result
}

/// Appends the present time, RFC 3339 in UTC with microseconds.
#[inline]
pub(crate) fn timestamp(out: &mut Vec<u8>) {
    // A clock before 1970 is shown as 1970.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = now.as_secs();
    let cached = SECOND.try_with(Cell::get).ok().filter(|(of, _)| *of == seconds);
    let text = cached.map_or_else(
        || {
            let text = date_time(seconds);
            let _ = SECOND.try_with(|cell| cell.set((seconds, text)));
            text
        },
        |(_, text)| text,
    );
    out.extend_from_slice(&text);
    out.push(b'.');
    six_digits(out, now.subsec_micros());
    out.push(b'Z');
}

#[inline]
fn six_digits(out: &mut Vec<u8>, mut number: u32) {
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&digits);
}

/// `2026-11-20T12:34:56` of seconds since 1970, by the rules of the Gregorian calendar.
pub(crate) fn date_time(seconds: u64) -> [u8; 19] {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    // Counted from 1 March of the year 0, the leap day is the last of its year. From there to 1970 are 719,468 days.
    let days = days + 719_468;
    let (era, day) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    // Take the leap days out (every 1,461st day, but not every 36,525th, save the last of the era), then years are
    // even.
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // From March on, months of 31 30 31 30 31 days repeat: 153 days in five months.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;

    let mut text = *b"0000-00-00T00:00:00";
    let parts =
        [(0, year / 100), (2, year), (5, month), (8, day), (11, time / 3600), (14, time / 60 % 60), (17, time % 60)];
    for (at, number) in parts {
        text[at] += (number / 10 % 10) as u8;
        text[at + 1] += (number % 10) as u8;
    }
    text
}

fn colour_of(level: Level) -> &'static [u8] {
    match level {
        Level::ERROR => b"\x1b[31m",
        Level::WARN => b"\x1b[33m",
        Level::INFO => b"\x1b[32m",
        _ => b"\x1b[2m",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(seconds: u64, expected: &str) {
        assert_eq!(std::str::from_utf8(&date_time(seconds)).unwrap(), expected);
    }

    #[test]
    fn seconds_become_dates_across_leap_years() {
        check(0, "1970-01-01T00:00:00");
        check(951_782_399, "2000-02-28T23:59:59");
        check(951_782_400, "2000-02-29T00:00:00");
        check(951_868_800, "2000-03-01T00:00:00");
        check(1_709_164_800, "2024-02-29T00:00:00");
        check(1_735_689_599, "2024-12-31T23:59:59");
        check(4_107_542_400, "2100-03-01T00:00:00");
        check(4_107_542_399, "2100-02-28T23:59:59");
    }

    #[test]
    fn every_day_follows_the_day_before() {
        let long = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..300_000 {
            check(days * 86_400 + 3_661, &format!("{year:04}-{month:02}-{day:02}T01:01:01"));
            let last = match month {
                2 => 28 + u64::from(long(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > last {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }

    #[test]
    fn numbers_that_json_has_no_word_for_are_texts() {
        let mut out = Vec::new();
        let mut line = Line::begin(&mut out, Format::Json, Level::INFO, "t");
        line.key(key!("a")).float(f64::NAN);
        line.key(key!("b")).float(1e300);
        line.key(key!("c")).float(f64::NEG_INFINITY);
        line.key(key!("d")).seconds(Duration::from_micros(1_000_042));
        line.end();
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&value["a"], &value["b"], &value["c"]), (&"NaN".into(), &1e300.into(), &"-inf".into()));
        assert_eq!(value["d"], 1.000_042);
    }
}
