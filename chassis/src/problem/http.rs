//! A problem as an HTTP answer: `application/problem+json` (RFC 9457).

use std::time::Duration;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header};
use opentelemetry::trace::TraceId;
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::Problem;
use crate::{
    cause::{ErrorType, Refusal},
    context::RequestContext,
};

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

impl Problem {
    /// The problem as an HTTP response; with the trace id the caller can name the request when it asks for help.
    ///
    /// The response carries [`ErrorType`] with the code in its extensions. Of a 5xx, the cause is logged here.
    #[must_use]
    pub fn into_http(self, trace_id: Option<TraceId>) -> Response {
        self.log();
        let body = serde_json::to_vec(&Document { problem: &self, trace_id }).unwrap_or_else(|error| {
            // Only a further member could fail, and that is JSON already when it gets here.
            tracing::error!(%error, "a problem could not be written");
            b"{}".to_vec()
        });
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.0.status;
        for (name, value) in self.0.headers {
            response.headers_mut().append(name, value);
        }
        response.headers_mut().insert(header::CONTENT_TYPE, PROBLEM_JSON);
        if let Some(wait) = self.0.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        response.extensions_mut().insert(ErrorType(self.0.code));
        if let Some(cause) = self.0.refused {
            response.extensions_mut().insert(Refusal(cause));
        }
        response
    }

    /// The problem as it is told in the middle of an answer whose head is sent: its JSON. The word is left with the
    /// request, for the observer. Of a 5xx, the cause is logged here.
    pub(crate) fn into_document(self) -> String {
        self.interrupt();
        let document = Document { problem: &self, trace_id: current_trace_id() };
        serde_json::to_string(&document).unwrap_or_else(|error| {
            tracing::error!(%error, "a problem could not be written");
            "{}".to_owned()
        })
    }

    /// Leaves the word with the request whose answer this problem ends before its time. Of a 5xx, the cause is logged here.
    pub(crate) fn interrupt(&self) {
        self.log();
        RequestContext::with_current(|context| {
            if let Some(context) = context {
                context.note_failure(self.0.code);
            }
        });
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.into_http(current_trace_id())
    }
}

pub(super) fn current_trace_id() -> Option<TraceId> {
    RequestContext::with_current(|context| context.map(|context| context.trace().trace_id))
}

/// The number of whole seconds, rounded up: a caller that waits so long has waited long enough.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0))
}

struct Document<'a> {
    problem: &'a Problem,
    trace_id: Option<TraceId>,
}

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let members = &self.problem.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &members.type_uri)?;
        map.serialize_entry("title", &members.title)?;
        map.serialize_entry("status", &members.status.as_u16())?;
        if let Some(detail) = &members.detail {
            map.serialize_entry("detail", detail)?;
        }
        match (&members.instance, self.trace_id) {
            (Some(instance), _) => map.serialize_entry("instance", instance)?,
            (None, Some(id)) => map.serialize_entry("instance", &format_args!("urn:trace:{id}"))?,
            (None, None) => {}
        }
        map.serialize_entry("code", members.code)?;
        if let Some(id) = self.trace_id {
            map.serialize_entry("trace_id", &format_args!("{id}"))?;
        }
        if let Some(wait) = members.retry_after {
            map.serialize_entry("retry_after", &whole_seconds(wait))?;
        }
        if let Some(safe) = self.problem.retry_safety() {
            map.serialize_entry("retry_safe", &safe)?;
        }
        if !members.violations.is_empty() {
            map.serialize_entry("violations", &members.violations)?;
        }
        for (name, value) in &members.extra {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}
