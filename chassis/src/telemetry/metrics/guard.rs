//! A meter provider whose callbacks cannot end a collection.
//!
//! The SDK runs the callbacks of observable instruments under the locks of its pipeline. A callback that panics there
//! poisons them, and every later collection is empty; a callback that makes an instrument waits for the lock that its own
//! thread holds. Every meter that the chassis hands out comes from here: a callback observes into a buffer, which reaches
//! the SDK only when the callback has returned.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use opentelemetry::{
    InstrumentationScope, KeyValue,
    metrics::{
        AsyncInstrument, AsyncInstrumentBuilder, Callback, Counter, Gauge, Histogram, HistogramBuilder,
        InstrumentBuilder, InstrumentProvider, Meter, MeterProvider, NoopMeterProvider, ObservableCounter,
        ObservableGauge, ObservableUpDownCounter, UpDownCounter,
    },
};
use opentelemetry_sdk::metrics::SdkMeterProvider;

use crate::telemetry::log;

thread_local! {
    /// Whether this thread runs a callback, and so holds locks of the SDK.
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Returns whether this thread runs a metric callback. Then it must not collect, nor make instruments.
pub(super) fn in_callback() -> bool {
    IN_CALLBACK.get()
}

/// The panics of callbacks, by instrument. Bounded by the number of instruments.
#[derive(Debug, Default)]
pub(super) struct Faults {
    panics: Mutex<BTreeMap<Arc<str>, u64>>,
    /// Instruments that a callback wanted to make, each reported once.
    refused: Mutex<HashSet<String>>,
    /// The instrument whose callback began last and has not returned.
    running: Mutex<Option<Arc<str>>>,
}

impl Faults {
    /// The instruments whose callbacks have panicked, and how often.
    pub(super) fn panics(&self) -> Vec<(Arc<str>, u64)> {
        lock(&self.panics).iter().map(|(name, count)| (name.clone(), *count)).collect()
    }

    /// The instrument whose callback runs now.
    pub(super) fn running(&self) -> Option<Arc<str>> {
        lock(&self.running).clone()
    }

    /// Runs the callback of an instrument; `false` when it panicked.
    fn run(&self, name: &Arc<str>, callback: impl FnOnce()) -> bool {
        let outside = IN_CALLBACK.replace(true);
        *lock(&self.running) = Some(name.clone());
        let result = log::caught(callback);
        *lock(&self.running) = None;
        if let Err(panic) = &result {
            log::count_panic();
            let first = {
                let mut panics = lock(&self.panics);
                let count = panics.entry(name.clone()).or_default();
                *count += 1;
                *count == 1
            };
            // Once: the callback runs at every collection and may panic at each.
            if first {
                tracing::error!(
                    target: "chassis::panic",
                    { instrument = &**name, panic.message = panic.message, panic.location = panic.location },
                    "a metric callback panicked; its instrument is left out, and further panics are counted only"
                );
            }
        }
        IN_CALLBACK.set(outside);
        result.is_ok()
    }

    /// Reports an instrument that a callback wanted to make.
    fn refuse(&self, name: &str) {
        if lock(&self.refused).insert(name.to_owned()) {
            tracing::error!(
                instrument = name,
                "a metric callback makes an instrument, which would stop all metrics; it records nothing: \
                 make the instrument before, and observe it in its own callback"
            );
        }
    }
}

/// The service's meter provider, whose callbacks are run with care. Cheap to clone.
#[derive(Clone)]
pub(crate) struct GuardedProvider {
    provider: SdkMeterProvider,
    faults: Arc<Faults>,
}

impl GuardedProvider {
    pub(super) fn new(provider: SdkMeterProvider) -> Self {
        Self { provider, faults: Arc::default() }
    }

    pub(super) fn sdk(&self) -> &SdkMeterProvider {
        &self.provider
    }

    pub(super) fn faults(&self) -> &Arc<Faults> {
        &self.faults
    }
}

impl fmt::Debug for GuardedProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedProvider").field("provider", &self.provider).finish_non_exhaustive()
    }
}

impl MeterProvider for GuardedProvider {
    fn meter_with_scope(&self, scope: InstrumentationScope) -> Meter {
        let none = NoopMeterProvider::new().meter_with_scope(scope.clone());
        let meter = self.provider.meter_with_scope(scope);
        Meter::new(Arc::new(Instruments { meter, none, faults: Arc::clone(&self.faults) }))
    }
}

/// The instruments of one meter.
struct Instruments {
    meter: Meter,
    /// Gives instruments that record nothing.
    none: Meter,
    faults: Arc<Faults>,
}

impl Instruments {
    fn meter_for(&self, name: &str) -> &Meter {
        if !in_callback() {
            return &self.meter;
        }
        self.faults.refuse(name);
        &self.none
    }

    /// All callbacks of one instrument as one: their values count together, or none of them does.
    fn guarded<T: Copy + Send + Sync + 'static>(&self, name: &str, callbacks: Vec<Callback<T>>) -> Vec<Callback<T>> {
        if callbacks.is_empty() {
            return Vec::new();
        }
        let (name, faults) = (Arc::<str>::from(name), Arc::clone(&self.faults));
        vec![Box::new(move |instrument: &dyn AsyncInstrument<T>| {
            let buffer = Buffer::default();
            if faults.run(&name, || callbacks.iter().for_each(|callback| callback(&buffer))) {
                for (value, attributes) in buffer.into_values() {
                    instrument.observe(value, &attributes);
                }
            }
        })]
    }
}

/// Keeps what a callback observes.
struct Buffer<T>(Mutex<Vec<(T, Vec<KeyValue>)>>);

impl<T> Default for Buffer<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Buffer<T> {
    fn into_values(self) -> Vec<(T, Vec<KeyValue>)> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Copy + Send + Sync> AsyncInstrument<T> for Buffer<T> {
    fn observe(&self, value: T, attributes: &[KeyValue]) {
        lock(&self.0).push((value, attributes.to_vec()));
    }
}

macro_rules! recorded {
    ($($method:ident: $builder:ident<$instrument:ty> $(, $extra:ident)?;)*) => {$(
        fn $method(&self, builder: $builder<'_, $instrument>) -> $instrument {
            let mut own = self.meter_for(&builder.name).$method(builder.name);
            own.description = builder.description;
            own.unit = builder.unit;
            $(own.$extra = builder.$extra;)?
            own.build()
        }
    )*};
}

macro_rules! observed {
    ($($method:ident: $instrument:ty, $value:ty;)*) => {$(
        fn $method(&self, builder: AsyncInstrumentBuilder<'_, $instrument, $value>) -> $instrument {
            let callbacks = self.guarded(&builder.name, builder.callbacks);
            let mut own = self.meter_for(&builder.name).$method(builder.name);
            own.description = builder.description;
            own.unit = builder.unit;
            own.callbacks = callbacks;
            own.build()
        }
    )*};
}

impl InstrumentProvider for Instruments {
    recorded! {
        u64_counter: InstrumentBuilder<Counter<u64>>;
        f64_counter: InstrumentBuilder<Counter<f64>>;
        i64_up_down_counter: InstrumentBuilder<UpDownCounter<i64>>;
        f64_up_down_counter: InstrumentBuilder<UpDownCounter<f64>>;
        u64_gauge: InstrumentBuilder<Gauge<u64>>;
        i64_gauge: InstrumentBuilder<Gauge<i64>>;
        f64_gauge: InstrumentBuilder<Gauge<f64>>;
        u64_histogram: HistogramBuilder<Histogram<u64>>, boundaries;
        f64_histogram: HistogramBuilder<Histogram<f64>>, boundaries;
    }

    observed! {
        u64_observable_counter: ObservableCounter<u64>, u64;
        f64_observable_counter: ObservableCounter<f64>, f64;
        i64_observable_up_down_counter: ObservableUpDownCounter<i64>, i64;
        f64_observable_up_down_counter: ObservableUpDownCounter<f64>, f64;
        u64_observable_gauge: ObservableGauge<u64>, u64;
        i64_observable_gauge: ObservableGauge<i64>, i64;
        f64_observable_gauge: ObservableGauge<f64>, f64;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
