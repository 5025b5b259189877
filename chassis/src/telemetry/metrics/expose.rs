//! The scrape: which format the reader wants, and the encoder of both.
//!
//! Prometheus text 0.0.4 and OpenMetrics 1.0.0 differ in the names of families, the order of metadata, canonical numbers
//! and exemplars; all else is written once.

use std::{
    fmt::{self, Write as _},
    time::UNIX_EPOCH,
};

use http::HeaderValue;

use super::{
    exemplars::{Exemplar, Exemplars},
    families::{Family, FamilyKind, Point, Series, SeriesLabels},
};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Writes all families in the format that `accept` asks for.
pub(super) fn render(
    families: &[Family],
    accept: Option<&HeaderValue>,
    exemplars: &Exemplars,
) -> (HeaderValue, String) {
    let mut body = String::new();
    // Writing to a String cannot fail.
    if wants_open_metrics(accept) {
        let _ = open_metrics(&mut body, families, exemplars);
        return (OPEN_METRICS, body);
    }
    let _ = text(&mut body, families);
    (TEXT, body)
}

/// Whether the `Accept` header (RFC 9110 section 12.5.1) prefers OpenMetrics 1.0.0 to text 0.0.4.
///
/// The reader gets text when it takes both equally without naming OpenMetrics, as `*/*` does, and also when it takes
/// neither: a person with a browser is served better by text than by an error.
fn wants_open_metrics(accept: Option<&HeaderValue>) -> bool {
    let Some(accept) = accept.and_then(|accept| accept.to_str().ok()) else {
        return false;
    };
    let ranges: Vec<Range<'_>> = accept.split(',').filter_map(Range::parse).collect();
    let open_metrics = quality(&ranges, ("application", "openmetrics-text"), "1.0.0");
    let text = quality(&ranges, ("text", "plain"), "0.0.4");
    let named = ranges.iter().any(|range| range.subtype.eq_ignore_ascii_case("openmetrics-text"));
    open_metrics > text || (open_metrics == text && open_metrics > 0 && named)
}

/// The weight of a media type, in thousandths, by the range that names it most closely; 0 when none does.
fn quality(ranges: &[Range<'_>], media_type: (&str, &str), version: &str) -> u16 {
    let fitting = ranges.iter().filter_map(|range| Some((range.closeness(media_type, version)?, range.quality)));
    fitting.max().map_or(0, |(_, quality)| quality)
}

/// One element of an `Accept` header.
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    version: Option<&'a str>,
    quality: u16,
}

impl<'a> Range<'a> {
    fn parse(element: &'a str) -> Option<Self> {
        let mut parts = element.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let mut range = Self { kind, subtype, version: None, quality: 1000 };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            if name.eq_ignore_ascii_case("q") {
                range.quality = thousandths(value)?;
            } else if name.eq_ignore_ascii_case("version") {
                range.version = Some(value.trim_matches('"'));
            }
        }
        Some(range)
    }

    /// How closely the range names the media type, larger is closer; `None` when it does not.
    fn closeness(&self, (kind, subtype): (&str, &str), version: &str) -> Option<u8> {
        let same_kind = self.kind.eq_ignore_ascii_case(kind);
        match self.version {
            _ if self.kind == "*" && self.subtype == "*" => Some(0),
            _ if same_kind && self.subtype == "*" => Some(1),
            _ if !same_kind || !self.subtype.eq_ignore_ascii_case(subtype) => None,
            None => Some(2),
            Some(wanted) => (wanted == version).then_some(3),
        }
    }
}

/// A weight between 0 and 1 with up to three decimals, in thousandths.
fn thousandths(text: &str) -> Option<u16> {
    let weight: f32 = text.parse().ok()?;
    // In range after the check, so the cast is exact.
    (0.0..=1.0).contains(&weight).then(|| (weight * 1000.0).round() as u16)
}

/// Writes Prometheus text 0.0.4.
fn text(out: &mut String, families: &[Family]) -> fmt::Result {
    for Family { name, kind, help, series, .. } in families {
        if !help.is_empty() {
            writeln!(out, "# HELP {name} {}", Escaped(help, false))?;
        }
        writeln!(out, "# TYPE {name} {}", kind.as_str())?;
        for series in series {
            write_series(out, name, series, |bound| bound.to_string(), |_| None)?;
        }
    }
    Ok(())
}

/// Writes OpenMetrics 1.0.0.
fn open_metrics(out: &mut String, families: &[Family], exemplars: &Exemplars) -> fmt::Result {
    for family in families {
        let (name, kind) = match family.kind {
            // Another family has the name without the suffix; a family of unknown type keeps its own.
            _ if family.shares_stem => (&*family.name, "unknown"),
            FamilyKind::Info => (family.stem(), "info"),
            kind => (family.stem(), kind.as_str()),
        };
        writeln!(out, "# TYPE {name} {kind}")?;
        if let Some(unit) = ["seconds", "bytes", "ratio"].into_iter().find(|unit| ends_in_word(name, unit)) {
            writeln!(out, "# UNIT {name} {unit}")?;
        }
        if !family.help.is_empty() {
            writeln!(out, "# HELP {name} {}", Escaped(&family.help, true))?;
        }
        for series in &family.series {
            let slots = match series.point {
                Point::Histogram { .. } => exemplars.find(&family.name, &series.labels),
                Point::Value(_) => None,
            };
            let exemplar = |bucket| slots.as_ref().and_then(|slots| slots.get(bucket));
            // The specification's canonical numbers: `1.0`, not `1`.
            write_series(out, &family.name, series, |bound| format!("{bound:?}"), exemplar)?;
        }
    }
    out.push_str("# EOF\n");
    Ok(())
}

fn write_series(
    out: &mut String,
    name: &str,
    series: &Series,
    bound: impl Fn(f64) -> String,
    exemplar: impl Fn(usize) -> Option<Exemplar>,
) -> fmt::Result {
    let labels = &series.labels;
    let (buckets, sum, count) = match &series.point {
        Point::Value(value) => return write_sample(out, (name, ""), labels, *value),
        Point::Histogram { buckets, sum, count } => (buckets, *sum, *count),
    };
    let mut bucket_line = |bucket, bound: &str, count: u64| {
        write_head(out, (name, "_bucket"), labels, Some(bound))?;
        write!(out, " {count}")?;
        if let Some(exemplar) = exemplar(bucket) {
            write_exemplar(out, &exemplar)?;
        }
        out.write_char('\n')
    };
    for (place, (upper, count)) in buckets.iter().enumerate() {
        bucket_line(place, &bound(*upper), *count)?;
    }
    bucket_line(buckets.len(), "+Inf", count)?;
    write_sample(out, (name, "_sum"), labels, sum)?;
    write_head(out, (name, "_count"), labels, None)?;
    writeln!(out, " {count}")
}

fn write_exemplar(out: &mut String, exemplar: &Exemplar) -> fmt::Result {
    let time = exemplar.time.duration_since(UNIX_EPOCH).unwrap_or_default();
    write!(
        out,
        " # {{trace_id=\"{}\",span_id=\"{}\"}} {} {}.{:03}",
        exemplar.trace_id,
        exemplar.span_id,
        exemplar.value,
        time.as_secs(),
        time.subsec_millis(),
    )
}

fn write_sample(out: &mut String, name: (&str, &str), labels: &SeriesLabels, value: f64) -> fmt::Result {
    write_head(out, name, labels, None)?;
    if value.is_infinite() {
        return writeln!(out, " {}Inf", if value > 0.0 { '+' } else { '-' });
    }
    writeln!(out, " {value}")
}

fn write_head(
    out: &mut String,
    (name, suffix): (&str, &str),
    labels: &SeriesLabels,
    bound: Option<&str>,
) -> fmt::Result {
    write!(out, "{name}{suffix}")?;
    let bound = bound.map(|bound| ("le", bound));
    let labels = labels.iter().map(|(name, value)| (&**name, &**value)).chain(bound);
    let mut separator = '{';
    for (name, value) in labels {
        write!(out, "{separator}{name}=\"{}\"", Escaped(value, true))?;
        separator = ',';
    }
    if separator == ',' { out.write_char('}') } else { Ok(()) }
}

fn ends_in_word(name: &str, word: &str) -> bool {
    name.strip_suffix(word).is_some_and(|stem| stem.ends_with('_'))
}

/// A text with `\` and line feed escaped, and `"` when asked for: in the text format a help has it plain.
struct Escaped<'a>(&'a str, bool);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive(['\\', '"', '\n']) {
            match part.strip_suffix(['\\', '"', '\n']) {
                None => f.write_str(part)?,
                Some(plain) => {
                    let escape = match &part[plain.len()..] {
                        "\n" => "\\n",
                        "\"" if self.1 => "\\\"",
                        "\"" => "\"",
                        _ => "\\\\",
                    };
                    write!(f, "{plain}{escape}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &'static str, open_metrics: bool) {
        assert_eq!(wants_open_metrics(Some(&HeaderValue::from_static(accept))), open_metrics, "{accept}");
    }

    #[test]
    fn the_format_follows_the_weights_of_the_accept_header() {
        assert!(!wants_open_metrics(None));
        check("*/*", false);
        check("text/html,application/xhtml+xml,*/*;q=0.8", false);
        check("text/plain", false);
        check("application/openmetrics-text", true);
        check("application/openmetrics-text; version=1.0.0; charset=utf-8", true);
        check("Application/OpenMetrics-Text;Version=\"1.0.0\"", true);
        check("application/*", true);
        check(
            "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            true,
        );
        check(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3",
            true,
        );
        check("text/plain;q=0.9, application/openmetrics-text;q=0.8", false);
        check("text/plain, application/openmetrics-text", true);
        check("application/openmetrics-text;q=0, */*", false);
        check("application/openmetrics-text;version=2.0.0, text/plain;q=0.1", false);
        check("image/png", false);
        check("application/openmetrics-text;q=nonsense", false);
        check("", false);
    }

    #[test]
    fn text_is_escaped_where_the_format_needs_it() {
        assert_eq!(Escaped("a\\b\"c\nd", true).to_string(), "a\\\\b\\\"c\\nd");
        assert_eq!(Escaped("a\\b\"c\nd", false).to_string(), "a\\\\b\"c\\nd");
        assert_eq!(Escaped("plain", true).to_string(), "plain");
    }
}
