//! What came of one attempt, in the terms that breaker, balancer, retry and metrics share.

use std::{error::Error, fmt};

use http::{HeaderMap, Response, StatusCode};
use tonic::Code;

use super::{
    error::NotSent,
    pool::{NoConnection, TooLarge},
};
pub(super) use crate::telemetry::metrics::code_of_status;
use crate::{cause::Cause, context::Protocol, error::BoxError};

/// The header, or trailer, of a gRPC answer with its code.
pub(super) const GRPC_STATUS: &str = "grpc-status";

/// What came of one attempt.
///
/// | | HTTP | gRPC |
/// | --- | --- | --- |
/// | `Failed` | 5xx but 501 and 505 | UNKNOWN, INTERNAL, UNAVAILABLE, DATA_LOSS, DEADLINE_EXCEEDED |
/// | `Throttled` | 429 | RESOURCE_EXHAUSTED |
/// | `Success` | all others | all others |
///
/// gRPC as Linkerd's breaker has it, with UNKNOWN, which is what an unexpected end of a handler becomes. An answer to a gRPC
/// call that is not gRPC, such as a proxy's page, counts by the code that gRPC maps its HTTP status to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The endpoint did its work, whatever the answer says to the caller.
    Success,
    /// The endpoint is at fault, or the connection broke.
    Failed,
    /// No answer within the attempt's time.
    TimedOut,
    /// The endpoint has too much to do.
    Throttled,
    /// There was no connection. Nothing was done.
    Unreachable,
    /// There was a connection, and nobody has looked at the request: the endpoint said so, or closed the connection before
    /// the request was written. Nothing was done. That is how an endpoint stops, and how a proxy ends old connections: it is
    /// not to blame.
    Untouched,
    /// A layer of this side held the attempt back. Nothing was sent, and the endpoint is not to blame.
    Refused(Cause),
}

impl Outcome {
    /// The word in metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Throttled => "throttled",
            Self::Unreachable => "unreachable",
            Self::Untouched => "untouched",
            Self::Refused(cause) => cause.as_str(),
        }
    }

    /// Whether nothing of the request reached a handler.
    #[must_use]
    pub const fn never_sent(self) -> bool {
        matches!(self, Self::Unreachable | Self::Untouched | Self::Refused(_))
    }

    /// Of the head of an answer; `None` when the trailers have to tell: a gRPC answer that goes on.
    #[must_use]
    pub fn of_head<B>(protocol: Protocol, response: &Response<B>) -> Option<Self> {
        match protocol {
            Protocol::Http => Some(Self::of_status(response.status())),
            Protocol::Grpc | Protocol::GrpcWeb => match code_in(response.headers()) {
                Some(code) => Some(Self::of_code(code)),
                // Not gRPC at all: a proxy on the way, which answers in its own terms.
                None if response.status() != StatusCode::OK => {
                    Some(Self::of_code(code_of_status(response.status().as_u16())))
                }
                None => None,
            },
        }
    }

    /// Of the trailers of a gRPC answer. Without a status the stream was cut short.
    #[must_use]
    pub fn of_trailers(trailers: &HeaderMap) -> Self {
        code_in(trailers).map_or(Self::Failed, Self::of_code)
    }

    /// Of an HTTP status.
    #[must_use]
    pub fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::TOO_MANY_REQUESTS => Self::Throttled,
            StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => Self::Success,
            status if status.is_server_error() => Self::Failed,
            _ => Self::Success,
        }
    }

    /// Of a gRPC code.
    #[must_use]
    pub const fn of_code(code: Code) -> Self {
        match code {
            Code::ResourceExhausted => Self::Throttled,
            Code::Unknown | Code::Internal | Code::Unavailable | Code::DataLoss | Code::DeadlineExceeded => {
                Self::Failed
            }
            _ => Self::Success,
        }
    }

    /// Of an error of the transport or of a layer.
    #[must_use]
    pub fn of_error(error: &BoxError) -> Self {
        let mut source: Option<&(dyn Error + 'static)> = Some(&**error);
        while let Some(inner) = source {
            if let Some(not_sent) = inner.downcast_ref::<NotSent>() {
                return Self::Refused(not_sent.cause());
            }
            if inner.is::<TimedOut>() {
                return Self::TimedOut;
            }
            if is_no_connection(inner) {
                return Self::Unreachable;
            }
            // The endpoint has answered; a limit of this side stops the answer.
            if inner.is::<TooLarge>() {
                return Self::Success;
            }
            if is_untouched(inner) {
                return Self::Untouched;
            }
            source = inner.source();
        }
        Self::Failed
    }
}

/// Whether this says that there was no connection.
pub(super) fn is_no_connection(error: &(dyn Error + 'static)) -> bool {
    error.is::<Unconnected>()
        || error.is::<NoConnection>()
        // Of a client of the user's own, in the place of a pool.
        || error
            .downcast_ref::<hyper_util::client::legacy::Error>()
            .is_some_and(hyper_util::client::legacy::Error::is_connect)
}

/// Whether this says that the call's time was up before there was a connection.
pub(super) fn is_late_connection(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<Unconnected>().is_some_and(|unconnected| unconnected.over)
}

/// Whether this says that nobody has looked at the request, although there was a connection.
///
/// Either the connection was closed before the request was written, which hyper calls cancelled and then hands it back; or
/// the other end said so: REFUSED_STREAM, or a GOAWAY whose last stream is an earlier one (RFC 9113, section 8.7). h2 tells
/// a stream of a GOAWAY from the other end in that case alone.
pub(super) fn is_untouched(error: &(dyn Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return error.is_canceled();
    }
    error.downcast_ref::<h2::Error>().is_some_and(|error| {
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        error.is_remote() && (refused || error.is_go_away())
    })
}

/// The gRPC code in headers or trailers.
pub(super) fn code_in(headers: &HeaderMap) -> Option<Code> {
    headers.get(GRPC_STATUS).map(|code| Code::from_bytes(code.as_bytes()))
}

/// The gRPC code of a call that ended with this error: the caller's, and that of metrics and spans.
pub(crate) fn code_of_error(error: &(dyn Error + 'static)) -> Code {
    let mut source = Some(error);
    while let Some(inner) = source {
        if let Some(not_sent) = inner.downcast_ref::<NotSent>() {
            return not_sent.cause().grpc_code();
        }
        if inner.is::<TimedOut>() || is_late_connection(inner) {
            return Code::DeadlineExceeded;
        }
        if is_no_connection(inner) || is_untouched(inner) {
            return Cause::NoEndpoints.grpc_code();
        }
        // As gRPC's own clients have it.
        if inner.is::<TooLarge>() {
            return Code::ResourceExhausted;
        }
        if let Some(status) = inner.downcast_ref::<tonic::Status>() {
            return status.code();
        }
        if let Some(h2) = inner.downcast_ref::<h2::Error>() {
            return code_of_h2(h2);
        }
        source = inner.source();
    }
    // The connection broke: what became of the call is not known.
    Code::Unavailable
}

/// As gRPC over HTTP/2 has it ("Errors").
fn code_of_h2(error: &h2::Error) -> Code {
    match error.reason() {
        Some(h2::Reason::REFUSED_STREAM) => Code::Unavailable,
        Some(h2::Reason::CANCEL) => Code::Cancelled,
        Some(h2::Reason::ENHANCE_YOUR_CALM) => Code::ResourceExhausted,
        Some(h2::Reason::INADEQUATE_SECURITY) => Code::PermissionDenied,
        Some(_) => Code::Internal,
        None => Code::Unavailable,
    }
}

/// The time of an attempt was up before there was a connection, or room for it on one of HTTP/2: nothing was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unconnected {
    /// And the call's time as well.
    pub(super) over: bool,
}

impl fmt::Display for Unconnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not sent within the time: no connection, or none with room for it")
    }
}

impl Error for Unconnected {}

/// The time of an attempt, or of the whole call, was up after it was sent.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct TimedOut;

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no answer within the time")
    }
}

impl Error for TimedOut {}
