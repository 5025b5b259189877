//! The scrape: which format the reader wants, and the OpenMetrics encoder.
//!
//! Prometheus text 0.0.4 is written by the `prometheus` crate; OpenMetrics 1.0.0 is written here, to the letter of its
//! specification, because that crate does not have it.

use std::{
    collections::HashSet,
    fmt::{self, Write as _},
    time::UNIX_EPOCH,
};

use bytes::Bytes;
use http::HeaderValue;
use prometheus::{
    TextEncoder,
    proto::{LabelPair, Metric, MetricFamily, MetricType},
};

use super::exemplars::{Exemplar, Exemplars};
use crate::telemetry::names::gauge_name;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Writes all families in the format that `accept` asks for.
pub(super) fn render(
    mut families: Vec<MetricFamily>,
    accept: Option<&HeaderValue>,
    exemplars: &Exemplars,
) -> (HeaderValue, Bytes) {
    rename_gauges(&mut families);
    let mut body = String::new();
    if wants_open_metrics(accept) {
        // Writing to a String cannot fail.
        let _ = open_metrics(&mut body, &families, exemplars);
        return (OPEN_METRICS, body.into());
    }
    if let Err(error) = TextEncoder::new().encode_utf8(&families, &mut body) {
        tracing::error!(%error, "the metrics scrape is incomplete");
    }
    (TEXT, body.into())
}

/// Takes `_count` off gauges, unless the other name is taken.
fn rename_gauges(families: &mut [MetricFamily]) {
    let taken: HashSet<String> = families.iter().map(|family| family.name().to_owned()).collect();
    for family in families {
        if family.get_field_type() == MetricType::GAUGE
            && let Some(name) = gauge_name(family.name())
            && !taken.contains(&name)
        {
            family.set_name(name);
        }
    }
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

/// Writes OpenMetrics 1.0.0.
fn open_metrics(out: &mut String, families: &[MetricFamily], exemplars: &Exemplars) -> fmt::Result {
    for family in families {
        write_family(out, family, exemplars)?;
    }
    out.push_str("# EOF\n");
    Ok(())
}

fn write_family(out: &mut String, family: &MetricFamily, exemplars: &Exemplars) -> fmt::Result {
    let full_name = family.name();
    // A family's samples have a suffix by its type, and the family's own name is without it.
    let (kind, name, suffix) = match family.get_field_type() {
        MetricType::COUNTER => ("counter", full_name.strip_suffix("_total").unwrap_or(full_name), "_total"),
        MetricType::HISTOGRAM => ("histogram", full_name, ""),
        _ => match full_name.strip_suffix("_info") {
            Some(name) => ("info", name, "_info"),
            None => ("gauge", full_name, ""),
        },
    };
    writeln!(out, "# TYPE {name} {kind}")?;
    if let Some(unit) = ["seconds", "bytes", "ratio"].into_iter().find(|unit| ends_in_word(name, unit)) {
        writeln!(out, "# UNIT {name} {unit}")?;
    }
    if !family.help().is_empty() {
        writeln!(out, "# HELP {name} {}", Escaped(family.help()))?;
    }
    for metric in family.get_metric() {
        match family.get_field_type() {
            MetricType::COUNTER => write_sample(out, (name, suffix), metric, None, metric.get_counter().get_value())?,
            MetricType::HISTOGRAM => write_histogram(out, name, metric, exemplars)?,
            // The exporter makes no other types.
            _ => write_sample(out, (name, suffix), metric, None, metric.get_gauge().get_value())?,
        }
    }
    Ok(())
}

fn write_histogram(out: &mut String, name: &str, metric: &Metric, exemplars: &Exemplars) -> fmt::Result {
    let histogram = metric.get_histogram();
    let slots = exemplars.find(name, metric.get_label());
    let exemplar = |bucket| slots.as_ref().and_then(|slots| slots.get(bucket));
    let mut bucket_line = |bucket, bound: &str, count: u64| {
        write_head(out, (name, "_bucket"), metric.get_label(), Some(bound))?;
        write!(out, " {count}")?;
        if let Some(exemplar) = exemplar(bucket) {
            write_exemplar(out, &exemplar)?;
        }
        out.write_char('\n')
    };
    for (place, bucket) in histogram.get_bucket().iter().enumerate() {
        // The specification's canonical numbers: `1.0`, not `1`.
        bucket_line(place, &format!("{:?}", bucket.upper_bound()), bucket.cumulative_count())?;
    }
    bucket_line(histogram.get_bucket().len(), "+Inf", histogram.get_sample_count())?;
    write_sample(out, (name, "_sum"), metric, None, histogram.get_sample_sum())?;
    write_head(out, (name, "_count"), metric.get_label(), None)?;
    writeln!(out, " {}", histogram.get_sample_count())
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

fn write_sample(out: &mut String, name: (&str, &str), metric: &Metric, bound: Option<&str>, value: f64) -> fmt::Result {
    write_head(out, name, metric.get_label(), bound)?;
    if value.is_infinite() {
        return writeln!(out, " {}Inf", if value > 0.0 { '+' } else { '-' });
    }
    writeln!(out, " {value}")
}

fn write_head(
    out: &mut String,
    (name, suffix): (&str, &str),
    labels: &[LabelPair],
    bound: Option<&str>,
) -> fmt::Result {
    write!(out, "{name}{suffix}")?;
    let bound = bound.map(|bound| ("le", bound));
    let labels = labels.iter().map(|label| (label.name(), label.value())).chain(bound);
    let mut separator = '{';
    for (name, value) in labels {
        write!(out, "{separator}{name}=\"{}\"", Escaped(value))?;
        separator = ',';
    }
    if separator == ',' { out.write_char('}') } else { Ok(()) }
}

fn ends_in_word(name: &str, word: &str) -> bool {
    name.strip_suffix(word).is_some_and(|stem| stem.ends_with('_'))
}

/// A text with `\`, `"` and line feed escaped.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive(['\\', '"', '\n']) {
            match part.strip_suffix(['\\', '"', '\n']) {
                None => f.write_str(part)?,
                Some(plain) => {
                    let escape = match &part[plain.len()..] {
                        "\n" => "\\n",
                        "\"" => "\\\"",
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
        assert_eq!(Escaped("a\\b\"c\nd").to_string(), "a\\\\b\\\"c\\nd");
        assert_eq!(Escaped("plain").to_string(), "plain");
    }
}
