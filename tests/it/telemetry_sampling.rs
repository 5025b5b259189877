//! Which requests are exported.

use chassis::testing::TestService;

use crate::support::telemetry::{eventually, exporting, fresh_trace_id, get_with, spans_of};

#[tokio::test]
async fn a_trace_that_the_caller_sampled_is_never_dropped_by_this_services_ratio() {
    let builder = TestService::builder()
        .env("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
        .env("OTEL_TRACES_SAMPLER_ARG", "0");
    let (service, receiver) = exporting(builder).await;
    let own = service.get("/orders/7").await.unwrap().header("x-trace-id").to_owned();
    for flags in ["01", "03"] {
        let trace_id = fresh_trace_id();
        let parent = format!("00-{trace_id}-00f067aa0ba902b7-{flags}");
        get_with(&service, "/orders/7", &[("traceparent", &parent)]).await;
        spans_of(&receiver, &trace_id, 3).await;
    }
    service.stop().await.unwrap();
    assert!(receiver.spans().iter().all(|span| span.trace_id.to_string() != own), "a trace of our own at ratio 0");
}

#[tokio::test]
async fn a_trace_that_the_caller_did_not_sample_is_not_taken_up() {
    let builder = TestService::builder().env("OTEL_TRACES_SAMPLER", "parentbased_always_on");
    let (service, receiver) = exporting(builder).await;
    for flags in ["00", "02"] {
        let parent = format!("00-{}-00f067aa0ba902b7-{flags}", fresh_trace_id());
        get_with(&service, "/orders/7", &[("traceparent", &parent)]).await;
    }
    service.stop().await.unwrap();
    assert_eq!(receiver.spans(), []);
}

#[tokio::test]
async fn half_of_the_traces_that_start_here_are_exported_at_ratio_one_half() {
    let builder = TestService::builder()
        .env("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
        .env("OTEL_TRACES_SAMPLER_ARG", "0.5")
        .set("log.access.enabled", false);
    let (service, receiver) = exporting(builder).await;
    for _ in 0..400 {
        service.get("/trace").await.unwrap();
    }
    service.stop().await.unwrap();
    // Six standard deviations: one run in 500 million fails by chance.
    let exported = receiver.spans().len();
    assert!((140..=260).contains(&exported), "{exported} of 400");
}

#[tokio::test]
async fn the_ratio_of_a_reloaded_file_counts_from_then_on() {
    let path = std::env::temp_dir().join(format!("chassis-it-ratio-{}.toml", std::process::id()));
    let write = |ratio: &str| std::fs::write(&path, format!("[telemetry.sampling]\nratio = {ratio}\n")).unwrap();
    write("0.0");
    let (service, receiver) = exporting(TestService::builder().file(&path)).await;
    service.get("/trace").await.unwrap();
    write("1.0");
    service.handle().reload();
    eventually("a span after the reload", async || {
        let answer = service.get("/trace").await.unwrap();
        // The flag says it before the span arrives.
        (answer.json()["flags"].as_u64().unwrap() & 1 == 1).then_some(())
    })
    .await;
    service.stop().await.unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(receiver.spans().len(), 1);
}
