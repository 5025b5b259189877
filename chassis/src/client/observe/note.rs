//! What the layers of one call tell each other.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use http::Request;
use opentelemetry::{
    Context as OtelContext,
    trace::{SpanId, TraceContextExt as _},
};
use tokio::time::Instant;

use super::{Called, ClientObserver, EndpointStats};
use crate::{
    client::call::CallInfo,
    context::RequestContext,
    telemetry::{
        propagation::{TraceParent, TraceState},
        sampling::new_span_id,
    },
};

/// One call under way: in its request's extensions, so that every attempt has it.
#[derive(Debug, Clone)]
pub(in crate::client) struct CallNote(Arc<Inner>);

#[derive(Debug)]
pub(in crate::client) struct Inner {
    pub(super) called: Arc<Called>,
    /// What the attempts are children of: the call's own span when it is recorded, else the one around the call.
    pub(super) parent: TraceParent,
    /// What the call's own span is a child of; `None` when the trace starts here.
    pub(super) above: Option<SpanId>,
    /// Whether the call's spans go to an exporter.
    pub(super) recorded: bool,
    /// The `tracestate` of the span around; a request being served has its own.
    pub(super) state: Option<TraceState>,
    /// The request being served.
    pub(super) context: Option<RequestContext>,
    /// When the call is given up.
    pub(super) deadline: Option<Instant>,
    pub(super) attempts: AtomicU32,
    /// The endpoint of the last attempt that failed.
    pub(super) failed_at: Mutex<Option<Arc<EndpointStats>>>,
}

impl CallNote {
    /// The note of a call that begins: part of the request being served, or else of the span around it, or else the first
    /// of a trace.
    pub(super) fn begin<B>(observer: &ClientObserver, request: &Request<B>) -> Self {
        Self::new(observer, request, true)
    }

    /// The note of an attempt without a call around it, which is itself the child of what is around.
    pub(super) fn alone<B>(observer: &ClientObserver, request: &Request<B>) -> Self {
        Self::new(observer, request, false)
    }

    fn new<B>(observer: &ClientObserver, request: &Request<B>, own_span: bool) -> Self {
        let context = request.extensions().get::<RequestContext>().cloned().or_else(RequestContext::current);
        let (around, state) = match &context {
            Some(context) => (Some(context.innermost()), None),
            None => OtelContext::map_current(|current| {
                let span = current.span();
                let around = TraceParent::from_span_context(span.span_context());
                let state = around.and_then(|_| TraceState::from_otel(span.span_context().trace_state()));
                (around, state)
            }),
        };
        let info = request.extensions().get::<CallInfo>();
        let start = around.unwrap_or_else(|| observer.sampler.start(None));
        let recorded = start.flags.is_sampled() && observer.spans.is_enabled();
        let parent_id = match (recorded, own_span, around) {
            (true, true, Some(_)) => new_span_id(),
            (true, false, None) => SpanId::INVALID,
            // The span around; or the first of the trace, which is the call's.
            _ => start.parent_id,
        };
        Self(Arc::new(Inner {
            called: observer.called(request, info),
            parent: TraceParent { parent_id, ..start },
            above: around.map(|around| around.parent_id),
            recorded,
            state,
            context,
            deadline: info.and_then(|info| info.deadline),
            attempts: AtomicU32::new(0),
            failed_at: Mutex::new(None),
        }))
    }

    /// Counts an attempt; gives how many there were before.
    pub(super) fn next_attempt(&self) -> u32 {
        self.attempts.fetch_add(1, Ordering::Relaxed)
    }
}

impl std::ops::Deref for CallNote {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}
