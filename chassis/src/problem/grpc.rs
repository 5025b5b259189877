//! A problem as a gRPC answer: a status with `google.rpc` details, sent as a trailers-only response.
//!
//! Source: the gRPC protocol over HTTP/2 ("Trailers-Only"), `google/rpc/status.proto`, `google/rpc/error_details.proto`.

use std::{collections::BTreeMap, sync::OnceLock};

use axum::{body::Body, response::Response};
use http::StatusCode;
use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};

use super::{Place, Problem, Violation, http::current_trace_id};
use crate::cause::{ErrorType, Refusal};

/// The longest message sent. The status travels in headers, and grpc-core takes 8 KiB of headers by default.
const MAX_MESSAGE_BYTES: usize = 1024;
/// The same of the message as it stands in its header, where a byte that is not plain ASCII takes three.
const MAX_ENCODED_MESSAGE_BYTES: usize = 2048;
/// The most bytes of details sent, before base64, for the same reason; beyond it, the last violations stay out, and then
/// all of them and the further members.
const MAX_DETAILS_BYTES: usize = 3000;

static DOMAIN: OnceLock<String> = OnceLock::new();

/// Names the service in `ErrorInfo.domain`. The first name stays: it is set once, at the start of the process.
pub(crate) fn set_domain(service: &str) {
    let _ = DOMAIN.set(service.to_owned());
}

/// The gRPC code that comes nearest to an HTTP status.
pub(super) fn code_of(status: StatusCode) -> Code {
    match status.as_u16() {
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 | 410 => Code::NotFound,
        405 | 501 => Code::Unimplemented,
        408 | 504 => Code::DeadlineExceeded,
        409 => Code::Aborted,
        412 | 428 => Code::FailedPrecondition,
        413 | 429 => Code::ResourceExhausted,
        499 => Code::Cancelled,
        400..=498 => Code::InvalidArgument,
        502 | 503 => Code::Unavailable,
        500..=599 => Code::Internal,
        _ => Code::Unknown,
    }
}

impl Problem {
    /// The problem as a gRPC status with `google.rpc` details: `ErrorInfo` (the code as its reason, the service as its
    /// domain), `BadRequest` for the violations, `RetryInfo`.
    ///
    /// Of a 5xx, the cause is logged here.
    #[must_use]
    pub fn into_status(self) -> Status {
        self.log();
        let message = self.0.detail.as_deref().unwrap_or(&self.0.title);
        let message = shortened(message);
        let mut violations = self.0.violations.len();
        let mut details = self.details(message, violations, true);
        while details.len() > MAX_DETAILS_BYTES && violations > 0 {
            violations /= 2;
            details = self.details(message, violations, violations > 0);
        }
        if details.len() > MAX_DETAILS_BYTES {
            details = self.details(message, 0, false);
        }
        Status::with_details(self.0.grpc, message, details.into())
    }

    /// The problem as a trailers-only gRPC response. It carries [`ErrorType`] with the code in its extensions.
    #[must_use]
    pub fn into_grpc(self) -> Response {
        let (code, refused) = (self.0.code, self.0.refused);
        let mut response = self.into_status().into_http::<Body>();
        response.extensions_mut().insert(ErrorType(code));
        if let Some(cause) = refused {
            response.extensions_mut().insert(Refusal(cause));
        }
        response
    }

    /// With so many of the violations; `members` is false when what the service adds is too much for a header.
    fn details(&self, message: &str, violations: usize, members: bool) -> Vec<u8> {
        let mut details = vec![pack("google.rpc.ErrorInfo", &self.error_info(members))];
        if violations > 0 {
            let field_violations = self.0.violations.iter().take(violations).map(FieldViolation::from).collect();
            details.push(pack("google.rpc.BadRequest", &BadRequest { field_violations }));
        }
        // A wait beyond the range of the wire type (292 years) is no hint.
        if let Some(retry_delay) = self.0.retry_after.and_then(|wait| wait.try_into().ok()) {
            details.push(pack("google.rpc.RetryInfo", &RetryInfo { retry_delay: Some(retry_delay) }));
        }
        RpcStatus { code: self.0.grpc as i32, message: message.to_owned(), details }.encode_to_vec()
    }

    fn error_info(&self, members: bool) -> ErrorInfo {
        let mut metadata = BTreeMap::new();
        if members {
            metadata.extend(self.0.extra.iter().map(|(name, value)| (name.clone().into_owned(), plain_text(value))));
        }
        if let Some(safe) = self.retry_safety() {
            metadata.insert("retry_safe".to_owned(), safe.to_string());
        }
        if let Some(id) = current_trace_id() {
            metadata.insert("trace_id".to_owned(), id.to_string());
        }
        ErrorInfo { reason: self.0.code.to_owned(), domain: DOMAIN.get().cloned().unwrap_or_default(), metadata }
    }
}

/// The wait that a trailers-only answer asks for: `google.rpc.RetryInfo` in its details.
pub(crate) fn retry_delay(headers: &http::HeaderMap) -> Option<std::time::Duration> {
    let status = Status::from_header_map(headers)?;
    let details = RpcStatus::decode(status.details()).ok()?.details;
    let packed = details.iter().find(|any| any.type_url.ends_with("/google.rpc.RetryInfo"))?;
    RetryInfo::decode(&*packed.value).ok()?.retry_delay?.try_into().ok()
}

fn shortened(message: &str) -> &str {
    let mut encoded = 0;
    for (at, letter) in message.char_indices() {
        let end = at + letter.len_utf8();
        // What tonic's `Status` percent-encodes.
        let is_plain = letter.is_ascii_graphic() && !"\"#%<>`?{}".contains(letter);
        encoded += if is_plain { 1 } else { 3 * letter.len_utf8() };
        if end > MAX_MESSAGE_BYTES || encoded > MAX_ENCODED_MESSAGE_BYTES {
            return &message[..at];
        }
    }
    message
}

fn pack(name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

fn plain_text(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) details: Vec<Any>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ErrorInfo {
    #[prost(string, tag = "1")]
    pub(super) reason: String,
    #[prost(string, tag = "2")]
    pub(super) domain: String,
    #[prost(btree_map = "string, string", tag = "3")]
    pub(super) metadata: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) field_violations: Vec<FieldViolation>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct FieldViolation {
    #[prost(string, tag = "1")]
    pub(super) field: String,
    #[prost(string, tag = "2")]
    pub(super) description: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    pub(super) retry_delay: Option<prost_types::Duration>,
}

impl From<&Violation> for FieldViolation {
    fn from(violation: &Violation) -> Self {
        let field = match &violation.place {
            Place::Pointer(pointer) => field_path(pointer),
            Place::Parameter(name) => name.clone(),
        };
        Self { field, description: violation.message.clone() }
    }
}

/// One step further into the body: a JSON pointer (RFC 6901) takes `~` and `/` of a name escaped.
pub(crate) fn push_step(pointer: &mut String, step: &str) {
    pointer.push('/');
    for letter in step.chars() {
        match letter {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            letter => pointer.push(letter),
        }
    }
}

/// A place in gRPC's notation: the JSON pointer `/items/0/sku` is `items[0].sku`.
pub(crate) fn field_path(pointer: &str) -> String {
    let mut path = String::new();
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        if !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit()) {
            path.push('[');
            path.push_str(&step);
            path.push(']');
        } else {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&step);
        }
    }
    path
}
