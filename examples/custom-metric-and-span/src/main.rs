//! How do I measure what my service does? `cargo run -p custom-metric-and-span`, then `curl -i localhost:8080/postage/700`
//! and `curl -s localhost:8081/metrics | grep parcels`.
//!
//! Instruments are OpenTelemetry's, made once from `chassis.meter`. Spans are those of `tracing`: one that a handler makes
//! is a child of the request's own. With `OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317` both go to a collector; without
//! one the metrics are at `/metrics`, and the log line below has the `trace_id` that the caller got as `x-trace-id`.
//!
//! Try next: send `-H 'traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'` along: the service is then
//! part of the caller's trace.

use chassis::prelude::*;
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram},
};

struct Post {
    parcels: Counter<u64>,
    weight: Histogram<u64>,
}

#[service]
impl Post {
    /// What it costs, in cents, to send so many grams.
    #[get("/postage/{grams}")]
    async fn postage(&self, grams: u64) -> u64 {
        let (size, cents) = weigh(grams).await;
        // Few values only: each one is a series of its own.
        self.parcels.add(1, &[KeyValue::new("size", size)]);
        self.weight.record(grams, &[]);
        cents
    }
}

/// A span of its own; its arguments become fields.
#[tracing::instrument]
async fn weigh(grams: u64) -> (&'static str, u64) {
    let (size, cents) = match grams {
        0..=20 => ("letter", 95),
        21..=2_000 => ("small", 430),
        _ => ("large", 1_050),
    };
    tracing::info!(size, cents, "weighed");
    (size, cents)
}

#[chassis::main]
async fn main(chassis: Chassis) -> chassis::Result<()> {
    let meter = chassis.meter("post");
    let parcels =
        meter.u64_counter("parcels.weighed").with_unit("{parcel}").with_description("Parcels by size.").build();
    let weight = meter
        .u64_histogram("parcels.weight")
        .with_unit("g")
        .with_description("What parcels weigh.")
        .with_boundaries(vec![20.0, 200.0, 2_000.0, 20_000.0])
        .build();
    chassis.mount(Post { parcels, weight }).serve().await
}
