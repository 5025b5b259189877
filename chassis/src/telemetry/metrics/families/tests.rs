#![allow(clippy::unwrap_used)]

use std::collections::HashSet;

use opentelemetry::{KeyValue, metrics::MeterProvider as _};

use super::{
    super::{
        Metrics,
        tests::{metrics, open_metrics, sample, text},
    },
    *,
};
use crate::telemetry::log::{LogConfig, tests::Captured};

/// Every line's name with its labels is there once, every label once in its line, and every family once.
fn assert_unique(scrape: &str) {
    let (mut families, mut series) = (HashSet::new(), HashSet::new());
    for line in scrape.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            assert!(families.insert(family.split(' ').next().unwrap()), "{line} in\n{scrape}");
        } else if !line.starts_with('#') {
            let id = line.rsplit_once(' ').unwrap().0.split(" # ").next().unwrap();
            assert!(series.insert(id), "{line} in\n{scrape}");
            let labels = id.split_once('{').map_or("", |(_, labels)| labels.trim_end_matches('}'));
            let mut names = HashSet::new();
            for label in labels.split("\",").filter(|label| !label.is_empty()) {
                assert!(names.insert(label.split('=').next().unwrap()), "{line}");
            }
        }
    }
}

/// Both scrapes, each twice and sound, and the warnings that they logged.
fn scrapes(metrics: &Metrics) -> ([String; 2], Vec<String>) {
    let captured = Captured::new(&LogConfig::default());
    let mut scrapes = [String::new(), String::new()];
    captured.run(|| {
        for _ in 0..2 {
            scrapes = [text(metrics), open_metrics(metrics)];
        }
    });
    scrapes.iter().for_each(|scrape| assert_unique(scrape));
    let warnings = captured.lines().into_iter().filter(|line| line["level"] == "WARN");
    (scrapes, warnings.map(|line| format!("{} {}", line["family"], line["message"])).collect())
}

#[test]
fn labels_of_the_format_are_not_given_twice() {
    let metrics = metrics();
    let attributes = ["le", "quantile", "otel.scope.name", "__name__", "1st", ""].map(|key| KeyValue::new(key, "x"));
    metrics.meter("shop").f64_histogram("took").with_boundaries(vec![1.0]).build().record(0.5, &attributes);
    metrics.meter("shop").u64_counter("sold").build().add(1, &attributes);
    let (scrapes, warnings) = scrapes(&metrics);
    for scrape in &scrapes {
        for label in ["exported_le", "exported_quantile", "exported_otel_scope_name", "exported___name__", "_1st", "_"]
        {
            assert_eq!(sample(scrape, "took_count", &[&format!("{label}=\"x\"")]), 1.0);
            assert_eq!(sample(scrape, "sold_total", &[&format!("{label}=\"x\"")]), 1.0);
        }
    }
    assert_eq!(warnings.len(), 8, "one for each attribute and instrument: {warnings:#?}");
    assert!(warnings[0].contains("`__name__` is the label `exported___name__`"), "{warnings:#?}");
}

#[test]
fn attributes_that_become_one_label_are_joined() {
    let metrics = metrics();
    let sold = metrics.meter("shop").u64_counter("sold").build();
    sold.add(1, &[KeyValue::new("a.b", "2"), KeyValue::new("a-b", "1")]);
    // Of the same label after that.
    sold.add(1, &[KeyValue::new("a_b", "1;2")]);
    let (scrapes, warnings) = scrapes(&metrics);
    for scrape in &scrapes {
        assert_eq!(sample(scrape, "sold_total", &["a_b=\"1;2\""]), 1.0);
    }
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
}

#[test]
fn an_empty_attribute_makes_no_second_series() {
    let metrics = metrics();
    let sold = metrics.meter("shop").u64_counter("sold").build();
    sold.add(1, &[]);
    sold.add(1, &[KeyValue::new("coupon", "")]);
    let (scrapes, warnings) = scrapes(&metrics);
    for scrape in &scrapes {
        assert_eq!(scrape.lines().filter(|line| line.starts_with("sold_total")).count(), 1);
    }
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
}

#[test]
fn instruments_of_one_name_show_their_meters() {
    let metrics = metrics();
    metrics.meter("shop").u64_counter("jobs").build().add(1, &[]);
    assert!(text(&metrics).contains("\njobs_total 1\n"), "one meter needs no label");
    metrics.meter("store").u64_counter("jobs").build().add(2, &[]);
    let (scrapes, warnings) = scrapes(&metrics);
    for scrape in &scrapes {
        assert_eq!(sample(scrape, "jobs_total", &["otel_scope_name=\"shop\""]), 1.0);
        assert_eq!(sample(scrape, "jobs_total", &["otel_scope_name=\"store\""]), 2.0);
    }
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
}

#[test]
fn meters_that_differ_in_version_are_told_apart() {
    let metrics = metrics();
    for version in ["1", "2"] {
        let scope = InstrumentationScope::builder("lib")
            .with_version(version)
            .with_attributes([KeyValue::new("version", "hidden"), KeyValue::new("shard", version)])
            .build();
        metrics.provider().meter_with_scope(scope).u64_counter("jobs").build().add(1, &[]);
    }
    for scrape in &scrapes(&metrics).0 {
        let labels = ["otel_scope_name=\"lib\"", "otel_scope_version=\"2\"", "otel_scope_shard=\"2\""];
        assert_eq!(sample(scrape, "jobs_total", &labels), 1.0);
    }
}

#[test]
fn a_counter_and_a_histogram_of_one_name_are_both_shown() {
    let metrics = metrics();
    metrics.meter("shop").u64_counter("jobs").build().add(3, &[]);
    metrics.meter("shop").f64_histogram("jobs").with_boundaries(vec![1.0]).build().record(0.5, &[]);
    let ([text, open_metrics], warnings) = scrapes(&metrics);
    for scrape in [&text, &open_metrics] {
        assert_eq!((sample(scrape, "jobs_total", &[]), sample(scrape, "jobs_count", &[])), (3.0, 1.0));
    }
    assert!(text.contains("# TYPE jobs_total counter\n") && open_metrics.contains("# TYPE jobs_total unknown\n"));
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
}

#[test]
fn of_one_name_and_different_types_the_first_stays() {
    let metrics = metrics();
    let meter = metrics.meter("shop");
    meter.u64_counter("sold").build().add(1, &[]);
    meter.f64_gauge("sold.total").build().record(9.0, &[]);
    meter.f64_histogram("took").with_unit("s").build().record(0.5, &[]);
    for name in ["took.seconds.bucket", "took.seconds.sum"] {
        meter.u64_gauge(name).build().record(9, &[]);
    }
    meter.u64_gauge("stock").build().record(4, &[]);
    meter.i64_up_down_counter("stock").build().add(5, &[]);
    let (scrapes, warnings) = scrapes(&metrics);
    for scrape in &scrapes {
        assert_eq!((sample(scrape, "sold_total", &[]), sample(scrape, "took_seconds_sum", &[])), (1.0, 0.5));
        assert_eq!(sample(scrape, "stock", &[]), 4.0);
    }
    assert_eq!(warnings.len(), 4, "{warnings:#?}");
}

#[test]
fn names_of_the_chassis_stay_its_own() {
    let metrics = metrics();
    let meter = metrics.meter("chassis");
    for name in ["target.info", "chassis.build.info"] {
        meter.u64_gauge(name).build().record(7, &[]);
    }
    meter.f64_gauge("http.server.request.duration").with_unit("s").build().record(7.0, &[]);
    meter.u64_counter("chassis.rejections").build().add(7, &[]);
    metrics.reject(crate::cause::Cause::Draining);
    let (scrapes, warnings) = scrapes(&metrics);
    for scrape in &scrapes {
        assert_eq!(sample(scrape, "chassis_build_info", &["version=\"1.2.3\""]), 1.0);
        assert_eq!(sample(scrape, "target_info", &[]), 1.0);
        assert!(!scrape.contains("# TYPE http_server_request_duration_seconds gauge"));
        assert_eq!(sample(scrape, "chassis_rejections_total", &["cause=\"draining\""]), 1.0);
        assert_eq!(sample(scrape, "chassis_rejections_total", &["otel_scope_name=\"chassis\""]), 7.0);
    }
    assert_eq!(warnings.len(), 4, "{warnings:#?}");
}

#[test]
fn suffixes_stand_once() {
    let metrics = metrics();
    let meter = metrics.meter("shop");
    meter.f64_counter("took.seconds.total").with_unit("s").build().add(1.0, &[]);
    meter.u64_counter("sent").with_unit("By/s").build().add(1, &[]);
    meter.f64_gauge("share").with_unit("1").build().record(0.5, &[]);
    let (scrapes, warnings) = scrapes(&metrics);
    for scrape in &scrapes {
        assert_eq!(sample(scrape, "took_seconds_total", &[]), 1.0);
        assert_eq!(sample(scrape, "sent_bytes_per_second_total", &[]), 1.0);
        assert_eq!(sample(scrape, "share_ratio", &[]), 0.5);
    }
    assert!(warnings.is_empty(), "{warnings:#?}");
}
