//! The spans of calls out, as the conventions want them.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use http::{StatusCode, Uri, Version};
use opentelemetry::{
    KeyValue,
    trace::{SpanId, SpanKind, Status},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents};
use tonic::Code;

use super::{ClientObserver, EndpointStats, note::CallNote, timing::Times};
use crate::telemetry::{
    metrics::{code_name, version_label},
    names::attribute,
    propagation::TraceParent,
    provider::scope, // floor: spans go straight to the exporter's queue, as those of requests do
};

/// What the span of an attempt needs of its request, taken before it is sent.
#[derive(Debug)]
pub(super) struct Sent {
    /// Without the query, which may hold much, or what no trace should.
    url: String,
    span_id: SpanId,
    number: u32,
}

impl Sent {
    pub(super) fn new(uri: &Uri, endpoint: &EndpointStats, span_id: SpanId, number: u32) -> Self {
        let scheme = uri.scheme_str().unwrap_or("http");
        Self { url: format!("{scheme}://{}{}", endpoint.authority(), uri.path()), span_id, number }
    }

    pub(super) fn span_id(&self) -> SpanId {
        self.span_id
    }
}

/// What was seen of an attempt.
pub(super) struct Seen<'a> {
    pub(super) endpoint: &'a EndpointStats,
    pub(super) sent: Sent,
    pub(super) times: &'a Times,
    /// The other end of the connection, when the transport told it.
    pub(super) peer: Option<SocketAddr>,
    pub(super) ending: Ending,
    pub(super) error_type: Option<&'static str>,
}

/// How an attempt ended, in the terms of its protocol.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ending {
    /// The status, 0 when none came.
    Http(u16, Version),
    Grpc(Code),
}

/// The span of one attempt.
#[cold]
pub(super) fn attempt(observer: &ClientObserver, call: &CallNote, seen: Seen<'_>, elapsed: Duration) -> SpanData {
    let Seen { endpoint, sent, times, peer, ending, error_type } = seen;
    let (end_time, start_time) = between(elapsed);
    let called = &call.called;
    let mut attributes = vec![KeyValue::new(attribute::SERVER_ADDRESS, observer.destination.to_string())];
    attributes.push(KeyValue::new(attribute::SERVER_PORT, i64::from(observer.port_of(endpoint))));
    match ending {
        Ending::Http(..) => {
            attributes.push(KeyValue::new(attribute::HTTP_REQUEST_METHOD, called.method));
            attributes.push(KeyValue::new(attribute::URL_FULL, sent.url));
            if let Some(template) = &called.template {
                attributes.push(KeyValue::new(attribute::URL_TEMPLATE, template.to_string()));
            }
            if sent.number > 0 {
                attributes.push(KeyValue::new(attribute::HTTP_REQUEST_RESEND_COUNT, i64::from(sent.number)));
            }
        }
        Ending::Grpc(_) => {
            attributes.push(KeyValue::new(attribute::RPC_SYSTEM_NAME, "grpc"));
            attributes.push(KeyValue::new(attribute::RPC_METHOD, called.name.to_string()));
            if sent.number > 0 {
                attributes.push(KeyValue::new(attribute::PREVIOUS_RPC_ATTEMPTS, i64::from(sent.number)));
            }
        }
    }
    // The address on the wire when the transport told it, else the endpoint's when it is one.
    let listed = || endpoint.endpoint().host.trim_matches(['[', ']']).parse().ok();
    if let Some(address) = peer.map(|peer| peer.ip()).or_else(listed) {
        let port = peer.map_or(endpoint.endpoint().port, |peer| peer.port());
        attributes.push(KeyValue::new(attribute::NETWORK_PEER_ADDRESS, address.to_string()));
        attributes.push(KeyValue::new(attribute::NETWORK_PEER_PORT, i64::from(port)));
    }
    let failed = end(&mut attributes, Some(ending), error_type);
    let mut events = SpanEvents::default();
    events.events = times.events(start_time);
    let parent = TraceParent { parent_id: sent.span_id, ..call.parent };
    SpanData {
        parent_span_id: call.parent.parent_id,
        name: called.name.to_string().into(),
        span_kind: SpanKind::Client,
        events,
        ..data(call, &parent, (start_time, end_time), attributes, failed)
    }
}

/// The span of a whole call.
#[cold]
pub(super) fn call(
    observer: &ClientObserver,
    call: &CallNote,
    outcome: &'static str,
    ending: Option<Ending>,
    failed: bool,
    elapsed: Duration,
) -> SpanData {
    let called = &call.called;
    let attempts = call.attempts.load(std::sync::atomic::Ordering::Relaxed);
    let mut attributes = vec![
        KeyValue::new(attribute::CLIENT_DESTINATION, observer.destination.to_string()),
        KeyValue::new(attribute::CLIENT_OUTCOME, outcome),
        KeyValue::new(attribute::CLIENT_ATTEMPTS, i64::from(attempts)),
    ];
    if called.is_grpc() {
        attributes.push(KeyValue::new(attribute::RPC_METHOD, called.name.to_string()));
    } else {
        attributes.push(KeyValue::new(attribute::HTTP_REQUEST_METHOD, called.method));
        attributes.extend(
            called.template.as_ref().map(|template| KeyValue::new(attribute::URL_TEMPLATE, template.to_string())),
        );
    }
    match ending {
        Some(Ending::Http(status, _)) if status != 0 => {
            attributes.push(KeyValue::new(attribute::HTTP_RESPONSE_STATUS_CODE, i64::from(status)));
        }
        Some(Ending::Grpc(code)) => {
            attributes.push(KeyValue::new(attribute::RPC_RESPONSE_STATUS_CODE, code_name(code)));
        }
        _ => {}
    }
    if failed {
        attributes.push(KeyValue::new(attribute::ERROR_TYPE, outcome));
    }
    let (end_time, start_time) = between(elapsed);
    SpanData {
        parent_span_id: call.above.unwrap_or(SpanId::INVALID),
        name: format!("{} {}", observer.destination, called.name).into(),
        span_kind: SpanKind::Internal,
        ..data(call, &call.parent, (start_time, end_time), attributes, failed)
    }
}

/// In this order: whatever delays the second reading makes a span begin earlier, never after its children.
fn between(elapsed: Duration) -> (SystemTime, SystemTime) {
    let end_time = SystemTime::now();
    (end_time, end_time.checked_sub(elapsed).unwrap_or(end_time))
}

/// Says how an attempt ended; whether that is an error to the one who asked: any status from 400, any code but OK.
fn end(attributes: &mut Vec<KeyValue>, ending: Option<Ending>, error_type: Option<&'static str>) -> bool {
    let (failed, own) = match ending {
        Some(Ending::Http(status, version)) => {
            if status != 0 {
                attributes.push(KeyValue::new(attribute::HTTP_RESPONSE_STATUS_CODE, i64::from(status)));
                attributes.push(KeyValue::new(attribute::NETWORK_PROTOCOL_VERSION, version_label(version)));
            }
            (status >= StatusCode::BAD_REQUEST.as_u16(), status.to_string())
        }
        Some(Ending::Grpc(code)) => {
            attributes.push(KeyValue::new(attribute::RPC_RESPONSE_STATUS_CODE, code_name(code)));
            (code != Code::Ok, code_name(code).to_owned())
        }
        None => (false, String::new()),
    };
    let failed = failed || error_type.is_some();
    if failed {
        attributes.push(KeyValue::new(attribute::ERROR_TYPE, error_type.map_or(own, str::to_owned)));
    }
    failed
}

fn data(
    call: &CallNote,
    own: &TraceParent,
    (start_time, end_time): (SystemTime, SystemTime),
    attributes: Vec<KeyValue>,
    failed: bool,
) -> SpanData {
    let state = call.context.as_ref().and_then(|context| context.trace().state.as_ref()).or(call.state.as_ref());
    let remote = own.span_context(state);
    let span_context = opentelemetry::trace::SpanContext::new(
        remote.trace_id(),
        remote.span_id(),
        remote.trace_flags(),
        false,
        remote.trace_state().clone(),
    );
    SpanData {
        span_context,
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: "".into(),
        start_time,
        end_time,
        attributes,
        dropped_attributes_count: 0,
        events: Default::default(),
        links: Default::default(),
        // The reason is in the status or in `error.type`.
        status: if failed { Status::error("") } else { Status::Unset },
        instrumentation_scope: scope(),
    }
}
