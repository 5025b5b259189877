//! One bridge from `tracing` for all services of a test's process.
//!
//! A process has one `tracing` subscriber and so one bridge, which in production belongs to the only service. Here it belongs
//! to nobody: a span goes to the service whose request its ancestors lead to. A span outside of requests has no such
//! ancestor and goes nowhere.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use opentelemetry::{
    Context,
    trace::{Span as _, SpanId, TraceContextExt, TracerProvider},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{Sampler, SdkTracerProvider, Span, SpanData, SpanProcessor},
};
use tracing::Subscriber;
use tracing_subscriber::{Layer, registry::LookupSpan};

use super::{Pipeline, bridge, scope};

/// Where the children of a span go.
static OWNERS: LazyLock<Mutex<HashMap<SpanId, Weak<Pipeline>>>> = LazyLock::new(Mutex::default);

static PROVIDER: LazyLock<SdkTracerProvider> = LazyLock::new(|| {
    SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)))
        .with_span_processor(ByOwner)
        .build()
});

fn owners() -> MutexGuard<'static, HashMap<SpanId, Weak<Pipeline>>> {
    OWNERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says where the children of a request's span go.
pub(super) fn claim(span: SpanId, owner: Weak<Pipeline>) {
    owners().insert(span, owner);
}

/// Forgets the requests of services that are gone.
pub(super) fn forget_the_gone() {
    owners().retain(|_, owner| owner.strong_count() > 0);
}

/// The layer, for the process's subscriber.
pub(crate) fn tracing_layer<S>() -> impl Layer<S> + Send + Sync + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    bridge(PROVIDER.tracer_with_scope(scope()))
}

#[derive(Debug)]
struct ByOwner;

impl SpanProcessor for ByOwner {
    fn on_start(&self, span: &mut Span, parent: &Context) {
        let mut owners = owners();
        if let Some(owner) = owners.get(&parent.span().span_context().span_id()).cloned() {
            owners.insert(span.span_context().span_id(), owner);
        }
    }

    fn on_end(&self, span: SpanData) {
        // Its children have ended before it, so nobody asks for it any more.
        let owner = owners().remove(&span.span_context.span_id());
        if let Some(pipeline) = owner.and_then(|owner| owner.upgrade()) {
            pipeline.push(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}
