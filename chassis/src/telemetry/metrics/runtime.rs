//! The tokio runtime, by the figures that need no unstable build.

use opentelemetry::KeyValue;
use tokio::runtime::{Handle, RuntimeMetrics};

use super::{Metrics, process::level};
use crate::telemetry::names::{self, attribute};

pub(super) fn observe(metrics: &Metrics, handle: &Handle) {
    let runtime = handle.metrics();
    metrics.observe_level(&names::RUNTIME_WORKERS, move || level(Some(runtime.num_workers() as u64)));
    let runtime = handle.metrics();
    metrics.observe_level(&names::RUNTIME_TASKS, move || level(Some(runtime.num_alive_tasks() as u64)));
    let runtime = handle.metrics();
    metrics.observe_level(&names::RUNTIME_QUEUE_DEPTH, move || level(Some(runtime.global_queue_depth() as u64)));
    let runtime = handle.metrics();
    metrics.observe_amount(&names::RUNTIME_BUSY_TIME, move || {
        (0..runtime.num_workers()).map(|n| busy(&runtime, n)).collect()
    });
}

/// Per worker, because one worker that is always busy is the picture of a handler that blocks.
fn busy(runtime: &RuntimeMetrics, worker: usize) -> (super::Labels, f64) {
    let labels = vec![KeyValue::new(attribute::WORKER, i64::try_from(worker).unwrap_or(i64::MAX))];
    (labels, runtime.worker_total_busy_duration(worker).as_secs_f64())
}
