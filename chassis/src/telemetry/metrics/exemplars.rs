//! Exemplars: for each bucket of a duration series the last sampled request that fell into it, shown in OpenMetrics.
//!
//! The SDK has none, so the series keep them and the encoder looks them up by the series' labels. Only a request whose
//! trace is really kept becomes an exemplar, so a link from a graph never leads nowhere.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use opentelemetry::{
    KeyValue,
    trace::{SpanId, TraceId},
};

use super::families::SeriesLabels;

/// The exemplars of all series, by family and labels.
#[derive(Debug, Default)]
pub(crate) struct Exemplars(Mutex<HashMap<String, Arc<Slots>>>);

impl Exemplars {
    /// The slots of one series, made when they are new.
    pub(crate) fn slots(&self, family: &str, labels: &[KeyValue], boundaries: &Arc<[f64]>) -> Arc<Slots> {
        let labels = labels.iter().map(|label| (label.key.as_str().replace('.', "_"), label.value.to_string()));
        let new = || Arc::new(Slots::new(Arc::clone(boundaries)));
        Arc::clone(self.lock().entry(key(family, labels.collect())).or_insert_with(new))
    }

    /// The slots of the series that the scrape shows with these labels, if a sampled request has been there.
    pub(crate) fn find(&self, family: &str, labels: &SeriesLabels) -> Option<Arc<Slots>> {
        self.lock().get(&key(family, labels.clone())).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Slots>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One text for a series, whatever the order of its labels.
fn key(family: &str, mut labels: Vec<(String, String)>) -> String {
    labels.sort_unstable();
    format!("{family}{labels:?}")
}

/// The exemplars of one series, one place for each bucket.
#[derive(Debug)]
pub(crate) struct Slots {
    boundaries: Arc<[f64]>,
    places: Vec<Mutex<Option<Exemplar>>>,
}

/// One sampled request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exemplar {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    pub(crate) value: f64,
    pub(crate) time: SystemTime,
}

impl Slots {
    fn new(boundaries: Arc<[f64]>) -> Self {
        let places = (0..=boundaries.len()).map(|_| Mutex::default()).collect();
        Self { boundaries, places }
    }

    /// Keeps a sampled request as the exemplar of the bucket it falls into.
    pub(crate) fn put(&self, value: f64, trace_id: TraceId, span_id: SpanId) {
        let bucket = self.boundaries.partition_point(|bound| *bound < value);
        let exemplar = Exemplar { trace_id, span_id, value, time: SystemTime::now() };
        *self.places[bucket].lock().unwrap_or_else(PoisonError::into_inner) = Some(exemplar);
    }

    /// The exemplar of a bucket, counted from the lowest; the one above the last boundary is `+Inf`.
    pub(crate) fn get(&self, bucket: usize) -> Option<Exemplar> {
        *self.places.get(bucket)?.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
