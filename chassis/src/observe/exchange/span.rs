//! The span of a request served, as the conventions want it.

use std::time::SystemTime;

use http::{Request, header, uri::Authority};
use opentelemetry::{
    KeyValue,
    trace::{SpanId, SpanKind, Status},
};
use opentelemetry_sdk::trace::SpanData;
use tonic::Code;

use super::{End, Exchange};
use crate::telemetry::{
    metrics::{code_name, is_server_error, method_label, version_label},
    names::attribute,
    provider::scope, // floor: the request's span goes straight to the exporter's queue
};

impl Exchange {
    #[cold]
    pub(super) fn http_span(&self, status: u16, error_type: Option<&'static str>) -> SpanData {
        let inner = &*self.context.0;
        let method = method_label(&inner.method);
        let mut attributes = vec![
            KeyValue::new(attribute::HTTP_REQUEST_METHOD, method),
            KeyValue::new(attribute::URL_PATH, inner.target.path().to_owned()),
            KeyValue::new(attribute::URL_SCHEME, "http"),
            KeyValue::new(attribute::HTTP_RESPONSE_STATUS_CODE, i64::from(status)),
            KeyValue::new(attribute::NETWORK_PROTOCOL_VERSION, version_label(inner.version)),
        ];
        let name = match self.context.route() {
            Some(route) => {
                attributes.push(KeyValue::new(attribute::HTTP_ROUTE, route.to_owned()));
                format!("{method} {route}")
            }
            None => method.to_owned(),
        };
        if error_type.is_none() && status >= 500 {
            attributes.push(KeyValue::new(attribute::ERROR_TYPE, status.to_string()));
        }
        let failed = status >= 500 || self.end == End::BrokeOff || self.context.0.failure.get().is_some();
        self.span(name, attributes, error_type, failed)
    }

    #[cold]
    pub(super) fn rpc_span(&self, path: &str, code: Code, error_type: Option<&'static str>) -> SpanData {
        let method = path.trim_start_matches('/').to_owned();
        let attributes = vec![
            KeyValue::new(attribute::RPC_SYSTEM_NAME, "grpc"),
            KeyValue::new(attribute::RPC_METHOD, method.clone()),
            KeyValue::new(attribute::RPC_RESPONSE_STATUS_CODE, code_name(code)),
        ];
        self.span(method, attributes, error_type, is_server_error(code))
    }

    fn span(
        &self,
        name: String,
        mut attributes: Vec<KeyValue>,
        error_type: Option<&'static str>,
        failed: bool,
    ) -> SpanData {
        let trace = self.context.trace();
        // In this order: whatever delays the second reading makes the span begin earlier, never after its children.
        let end_time = SystemTime::now();
        let elapsed = self.context.started().elapsed();
        let inner = &*self.context.0;
        if let Some(error_type) = error_type {
            attributes.push(KeyValue::new(attribute::ERROR_TYPE, error_type));
        }
        if let Some((address, port)) = &inner.host {
            attributes.push(KeyValue::new(attribute::SERVER_ADDRESS, address.to_string()));
            attributes.push(KeyValue::new(attribute::SERVER_PORT, i64::from(*port)));
        }
        if let Some(peer) = inner.peer {
            attributes.push(KeyValue::new(attribute::CLIENT_ADDRESS, peer.ip().to_string()));
        }
        if let Some(agent) = inner.user_agent.as_ref().and_then(|agent| agent.to_str().ok()) {
            attributes.push(KeyValue::new(attribute::USER_AGENT_ORIGINAL, agent.to_owned()));
        }
        SpanData {
            span_context: trace.span_context(),
            parent_span_id: trace.parent_id.unwrap_or(SpanId::INVALID),
            parent_span_is_remote: trace.parent_id.is_some(),
            span_kind: SpanKind::Server,
            name: name.into(),
            start_time: end_time.checked_sub(elapsed).unwrap_or(end_time),
            end_time,
            attributes,
            dropped_attributes_count: 0,
            events: Default::default(),
            links: Default::default(),
            status: if failed { Status::error(error_type.unwrap_or_default()) } else { Status::Unset },
            instrumentation_scope: scope(),
        }
    }
}

/// Whom the caller asked for (HTTP conventions, "Setting server.address and server.port attributes"): `:authority`, or else
/// the `host` header. Without a port it is that of cleartext.
#[cold]
pub(super) fn host<B>(request: &Request<B>) -> Option<(Box<str>, u16)> {
    let named = || request.headers().get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let authority = request.uri().authority().cloned().or_else(named)?;
    let address = authority.host().trim_start_matches('[').trim_end_matches(']');
    (!address.is_empty()).then(|| (address.into(), authority.port_u16().unwrap_or(80)))
}
