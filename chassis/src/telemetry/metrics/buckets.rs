//! Boundaries of histograms, as the configuration has them.

use std::collections::BTreeMap;

use crate::{
    config::nearest,
    telemetry::names::{Kind, METRICS, MetricDoc},
};

/// The longest name of an instrument (OpenTelemetry specification, "Instrument name syntax").
const LONGEST_NAME: usize = 255;

/// What is wrong with the boundaries: the metric's name, and the message.
pub(super) fn problems(buckets: &BTreeMap<String, Vec<f64>>) -> Vec<(&str, String)> {
    let found = buckets.iter().filter_map(|(name, bounds)| Some((name.as_str(), problem(name, bounds)?)));
    found.collect()
}

fn problem(name: &str, bounds: &[f64]) -> Option<String> {
    if let Some(message) = name_problem(name) {
        return Some(message);
    }
    let rising = bounds.windows(2).all(|pair| pair[0] < pair[1]);
    let right = !bounds.is_empty() && rising && bounds.iter().all(|bound| bound.is_finite());
    (!right).then(|| format!("found {bounds:?}, expected finite boundaries, each larger than the one before"))
}

/// The service may have histograms of its own, so only a name that none of them can have is refused: one that is no name of
/// an instrument, one that begins as the chassis's own do, one that is nearly a histogram of the chassis.
fn name_problem(name: &str) -> Option<String> {
    let histograms = || METRICS.iter().filter(|metric| metric.kind == Kind::Histogram);
    let known: Option<&MetricDoc> = METRICS.iter().find(|metric| metric.name == name);
    if known.is_some_and(|metric| metric.kind == Kind::Histogram) {
        return None;
    }
    if known.is_some() {
        return Some(format!("{name} is no histogram and has no boundaries; take it out"));
    }
    if let Some(metric) = histograms().find(|metric| metric.scrape_name() == name) {
        return Some(format!("found a name of the scrape, expected the metric's own; did you mean {}?", metric.name));
    }
    let is_name = name.chars().next().is_some_and(|first| first.is_ascii_alphabetic())
        && name.len() <= LONGEST_NAME
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-/".contains(c));
    if !is_name {
        return Some(
            "found a name that no metric has, expected letters, digits, _, ., - and /, a letter first".to_owned(),
        );
    }
    if let Some(near) = nearest(name, histograms().map(|metric| metric.name)) {
        return Some(format!("unknown metric; did you mean {near}?"));
    }
    name.starts_with("chassis.").then(|| {
        let known: Vec<_> = histograms().map(|metric| metric.name).collect();
        format!("unknown metric, expected {} or a histogram of the service's own", known.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_rise() {
        for bounds in [vec![], vec![1.0, 1.0], vec![2.0, 1.0], vec![f64::NAN], vec![1.0, f64::INFINITY]] {
            assert!(problem("basket.size", &bounds).is_some_and(|text| text.starts_with("found [")), "{bounds:?}");
        }
        assert_eq!(problem("basket.size", &[1.0, 2.0]), None);
    }

    #[test]
    fn a_name_that_no_histogram_can_have_is_refused() {
        for (name, part) in [
            ("http.server.request.duraton", "did you mean http.server.request.duration?"),
            ("http_server_request_duration_seconds", "did you mean http.server.request.duration?"),
            ("http.server.active_requests", "is no histogram"),
            ("chassis.rejections", "is no histogram"),
            ("chassis.nothing", "unknown metric, expected "),
            ("7up", "a letter first"),
            ("", "a letter first"),
            ("basket size", "a letter first"),
        ] {
            let found = name_problem(name).unwrap_or_default();
            assert!(found.contains(part), "{name}: {found}");
        }
        for own in ["basket.size", "orders/lines", "http.server.request.body.size", "store.time"] {
            assert_eq!(name_problem(own), None, "{own}");
        }
    }
}
