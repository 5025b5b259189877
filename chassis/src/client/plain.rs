//! The span of a call by a client without layers, which has no observer of its own.

use http::{HeaderMap, Method, Uri};
use tracing::Span;

use super::propagate::{Propagated, Propagation};
use crate::{
    context::RequestContext,
    telemetry::{metrics::method_label, propagation::TraceParent, sampling::new_span_id},
};

/// The client's span of a call, for a request whose trace is recorded; none for others.
pub(super) fn span(context: &RequestContext, method: &Method, template: &str, uri: &Uri) -> Span {
    if !context.trace().flags.is_sampled() {
        return Span::none();
    }
    let method = method_label(method);
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    let template = (!template.is_empty()).then_some(template);
    let name = template.map_or_else(|| method.to_owned(), |template| format!("{method} {template}"));
    tracing::info_span!(
        "call",
        otel.name = name,
        otel.kind = "client",
        http.request.method = method,
        url.template = template,
        server.address = uri.host(),
        server.port = port,
    )
}

/// Writes what is to travel: the trace with an id of the call's own as the parent, its span's when that is recorded, else a new
/// one. Two calls of one request are two, also where nothing is recorded (W3C Trace Context, "Mutating the traceparent Field").
pub(super) fn inject(context: &RequestContext, span: &Span, what: Propagation, headers: &mut HeaderMap) {
    if what.has(Propagated::TraceContext) {
        let around = context.innermost();
        let own = span.in_scope(|| context.innermost().parent_id);
        let parent_id = if own == around.parent_id { new_span_id() } else { own };
        context.write_trace(headers, &TraceParent { parent_id, ..around });
    }
    if what.has(Propagated::Baggage) {
        context.write_baggage(headers);
    }
    if what.has(Propagated::Priority) {
        context.write_priority(headers);
    }
}
