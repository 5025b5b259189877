#![allow(clippy::unwrap_used)]

use std::{sync::mpsc, time::Duration};

use opentelemetry_sdk::metrics::PeriodicReader;

use super::{
    super::{
        MetricsConfig,
        tests::{Pushed, metrics, metrics_with, sample, series, text},
    },
    *,
};
use crate::telemetry::log::{LogConfig, tests::Captured};

#[test]
fn a_panic_in_a_callback_leaves_its_instrument_out() {
    let pushed = Pushed::default();
    let reader = PeriodicReader::builder(pushed.clone()).build();
    let metrics = metrics_with(MetricsConfig::default(), |builder| builder.with_reader(reader));
    let meter = metrics.meter("orders");
    let broken = meter.u64_observable_counter("broken");
    let broken = broken.with_callback(|broken| broken.observe(1, &[KeyValue::new("part", "first")]));
    broken.with_callback(|_| panic!("out of paper")).build();
    meter.u64_observable_counter("sound").with_callback(|sound| sound.observe(3, &[])).build();
    let captured = Captured::new(&LogConfig::default());
    captured.run(|| {
        for scrapes in 1..=3 {
            let scrape = text(&metrics);
            assert!(!scrape.contains("\nbroken"), "{scrape}");
            assert_eq!(sample(&scrape, "sound_total", &[]), 3.0);
            assert_eq!(sample(&scrape, "chassis_build_info", &[]), 1.0);
            if scrapes > 1 {
                assert!(sample(&scrape, "chassis_metrics_callback_panics_total", &["instrument=\"broken\""]) > 0.0);
            }
            metrics.sdk_provider().force_flush().unwrap();
        }
    });
    let pushed = pushed.0.lock().unwrap();
    assert_eq!((pushed.get("sound"), pushed.get("broken")), (Some(&3), None), "OTLP is no different");
    let lines = captured.lines();
    let told: Vec<_> = lines.iter().filter(|line| line["instrument"] == "broken").collect();
    // The thread that pushes may be the first, and logs elsewhere.
    assert!(told.len() <= 1 && told.iter().all(|line| line["panic.message"] == "out of paper"), "{lines:?}");
}

#[test]
fn a_callback_that_makes_an_instrument_stops_nothing() {
    let metrics = metrics();
    let (meter, inner) = (metrics.meter("orders"), metrics.clone());
    let outer = meter.i64_observable_gauge("outer");
    let outer = outer.with_callback(move |outer| {
        inner.meter("orders").u64_counter("late").build().add(1, &[]);
        assert!(inner.render(None).is_err(), "this thread is collecting");
        outer.observe(7, &[]);
    });
    outer.build();
    for _ in 0..2 {
        let scrape = text(&metrics);
        assert_eq!((sample(&scrape, "outer", &[]), series(&scrape, "late_total")), (7.0, 0));
    }
}

#[test]
fn a_scrape_without_the_build_info_is_refused() {
    let metrics = metrics();
    assert!(metrics.render(None).is_ok());
    metrics.sdk_provider().shutdown().unwrap();
    assert!(metrics.render(None).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_does_not_return_holds_one_scrape() {
    let metrics = metrics();
    let (began, begins) = mpsc::sync_channel(1);
    let (release, released) = mpsc::sync_channel::<()>(1);
    let ends = Mutex::new((began, released));
    let meter = metrics.meter("orders");
    let stuck = meter.u64_observable_gauge("stuck");
    let wait = move |_: &dyn AsyncInstrument<u64>| {
        let ends = ends.lock().unwrap();
        ends.0.send(()).unwrap();
        let _ = ends.1.recv();
    };
    stuck.with_callback(wait).build();
    let time_passes = async {
        begins.recv().unwrap();
        tokio::time::advance(Duration::from_secs(11)).await;
    };
    let (one, other, ()) = tokio::join!(metrics.scrape(None), metrics.scrape(None), time_passes);
    for scrape in [one, other] {
        assert!(scrape.unwrap_err().to_string().contains("callback of `stuck`"));
    }
    assert!(begins.try_recv().is_err(), "the second scrape has begun none");
    drop(release);
}
