//! One scrape: a collection of the SDK's, its names settled, in the format that was asked for.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderValue;
use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    metrics::{InstrumentKind, ManualReader, Pipeline, Temporality, data::ResourceMetrics, reader::MetricReader},
};
use tokio::sync::Semaphore;

use super::{
    Metrics, expose,
    families::{Collision, Names},
    guard,
};
use crate::telemetry::names;

/// How long a scrape may take, with the time it waits for another. Prometheus' own default, `scrape_timeout`.
const SCRAPE_LIMIT: Duration = Duration::from_secs(10);

/// What the scrapes of one service share.
pub(super) struct Scrape {
    reader: SharedReader,
    names: Mutex<Names>,
    turn: Arc<Semaphore>,
}

impl Scrape {
    pub(super) fn new(own: InstrumentationScope) -> Self {
        Self { reader: SharedReader::default(), names: Mutex::new(Names::new(own)), turn: Arc::new(Semaphore::new(1)) }
    }

    /// The reader that the meter provider is built with.
    pub(super) fn reader(&self) -> impl MetricReader + use<> {
        self.reader.clone()
    }
}

/// Why there is no scrape.
#[derive(Debug, thiserror::Error)]
#[error("there are no metrics to show: {0}")]
pub struct ScrapeError(String);

impl Metrics {
    /// All metrics, in the format the `Accept` header asks for: OpenMetrics 1.0.0, or else Prometheus text 0.0.4.
    /// Gives the content type and the body.
    ///
    /// Takes half a millisecond for an idle service, and more with thousands of series: with many routes call it off the
    /// request threads. A callback that panics leaves its instrument out; names that collide are settled, and each
    /// collision is logged once.
    ///
    /// # Errors
    ///
    /// There is nothing that a reader could take for the metrics of a service: after the provider's shutdown, and when
    /// `chassis_build_info` is missing.
    pub fn render(&self, accept: Option<&HeaderValue>) -> Result<(HeaderValue, Bytes), ScrapeError> {
        // This very thread holds the SDK's locks.
        if guard::in_callback() {
            return Err(ScrapeError("a metric callback asks for them".to_owned()));
        }
        let scrape = &self.0.scrape;
        let mut collected = ResourceMetrics::default();
        scrape.reader.collect(&mut collected).map_err(|error| ScrapeError(error.to_string()))?;
        let (families, collisions) = scrape.names.lock().unwrap_or_else(PoisonError::into_inner).families(&collected);
        for Collision { family, meter, message } in &collisions {
            let meter = Some(&**meter).filter(|meter| !meter.is_empty());
            tracing::warn!(family, meter, "the name of a metric collides in the scrape: {message}");
        }
        let build_info = names::BUILD_INFO.scrape_name();
        if !families.iter().any(|family| family.name == build_info) {
            return Err(ScrapeError(format!("`{build_info}` is missing")));
        }
        let (content_type, body) = expose::render(&families, accept, &self.0.exemplars);
        Ok((content_type, body.into()))
    }

    /// As [`render`](Self::render), on a thread for work that blocks, and within ten seconds.
    ///
    /// Scrapes take turns, as the SDK collects one after the other: a callback that does not return holds one thread, and not
    /// one for each scrape.
    pub(crate) async fn scrape(&self, accept: Option<HeaderValue>) -> Result<(HeaderValue, Bytes), ScrapeError> {
        let (metrics, turn) = (self.clone(), self.0.scrape.turn.clone());
        let scrape = async {
            let turn = turn.acquire_owned().await.map_err(|error| ScrapeError(error.to_string()))?;
            let render = move || {
                let _turn = turn;
                metrics.render(accept.as_ref())
            };
            tokio::task::spawn_blocking(render).await.map_err(|error| ScrapeError(error.to_string()))?
        };
        tokio::time::timeout(SCRAPE_LIMIT, scrape).await.unwrap_or_else(|_| {
            let limit = SCRAPE_LIMIT.as_secs();
            Err(ScrapeError(match self.0.provider.faults().running() {
                Some(instrument) => format!("the metric callback of `{instrument}` has not returned within {limit} s"),
                None => format!("they were not collected within {limit} s"),
            }))
        })
    }
}

/// A reader that its provider and the scrape share.
#[derive(Debug, Default, Clone)]
struct SharedReader(Arc<ManualReader>);

impl MetricReader for SharedReader {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    // Cumulative, as Prometheus needs it: the default of `ManualReader`.
    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}
