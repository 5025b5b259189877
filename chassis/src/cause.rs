//! The one vocabulary of refusal: the same word as metric label, log field, problem `code` and gRPC `ErrorInfo.reason`.

use http::StatusCode;
use tonic::Code;

/// Why a request was refused or failed, in one word that every outlet uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The caller's or the route's time was up.
    DeadlineExceeded,
    /// The load shedder turned the request away.
    Overloaded,
    /// A rate limit turned the request away.
    RateLimited,
    /// A circuit breaker is open.
    CircuitOpen,
    /// A concurrency limit (bulkhead) is full.
    BulkheadFull,
    /// The caller did not say who it is, or not credibly.
    Unauthenticated,
    /// The caller is known and may not do this.
    PermissionDenied,
    /// The body is larger than the limit.
    PayloadTooLarge,
    /// The request cannot be understood.
    InvalidRequest,
    /// No route answers this path, or the thing asked for does not exist.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The instance is stopping.
    Draining,
    /// A call out found nobody to answer.
    NoEndpoints,
    /// A fault of the service: a panic, a broken invariant.
    Internal,
}

impl Cause {
    /// All causes, in the order of the documentation.
    pub const ALL: [Self; 14] = [
        Self::DeadlineExceeded,
        Self::Overloaded,
        Self::RateLimited,
        Self::CircuitOpen,
        Self::BulkheadFull,
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::PayloadTooLarge,
        Self::InvalidRequest,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Draining,
        Self::NoEndpoints,
        Self::Internal,
    ];

    /// The word itself.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Overloaded => "overloaded",
            Self::RateLimited => "rate_limited",
            Self::CircuitOpen => "circuit_open",
            Self::BulkheadFull => "bulkhead_full",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission_denied",
            Self::PayloadTooLarge => "payload_too_large",
            Self::InvalidRequest => "invalid_request",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Draining => "draining",
            Self::NoEndpoints => "no_endpoints",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status that carries it (RFC 9110, RFC 6585).
    #[must_use]
    pub const fn http_status(self) -> StatusCode {
        match self {
            Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Self::Overloaded | Self::CircuitOpen | Self::BulkheadFull | Self::Draining | Self::NoEndpoints => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::PermissionDenied => StatusCode::FORBIDDEN,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The gRPC code that carries it (the gRPC status code table).
    #[must_use]
    pub const fn grpc_code(self) -> Code {
        match self {
            Self::DeadlineExceeded => Code::DeadlineExceeded,
            Self::Overloaded | Self::RateLimited | Self::BulkheadFull | Self::PayloadTooLarge => {
                Code::ResourceExhausted
            }
            Self::CircuitOpen | Self::Draining | Self::NoEndpoints => Code::Unavailable,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::PermissionDenied => Code::PermissionDenied,
            Self::InvalidRequest => Code::InvalidArgument,
            Self::NotFound => Code::NotFound,
            Self::MethodNotAllowed => Code::Unimplemented,
            Self::Internal => Code::Internal,
        }
    }

    /// A short human sentence, the problem's `title`.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::DeadlineExceeded => "The time for this request was up",
            Self::Overloaded => "The service has more work than it can do",
            Self::RateLimited => "Too many requests",
            Self::CircuitOpen => "A dependency is failing and is given time to recover",
            Self::BulkheadFull => "Too many requests of this kind are being served",
            Self::Unauthenticated => "Credentials are missing or not accepted",
            Self::PermissionDenied => "The caller may not do this",
            Self::PayloadTooLarge => "The request body is too large",
            Self::InvalidRequest => "The request cannot be understood",
            Self::NotFound => "There is nothing here",
            Self::MethodNotAllowed => "The method is not allowed here",
            Self::Draining => "The instance is stopping",
            Self::NoEndpoints => "No instance of a dependency is available",
            Self::Internal => "The service failed",
        }
    }

    /// Whether the request was certainly not acted upon, so that a retry is safe whatever the method.
    #[must_use]
    pub const fn never_processed(self) -> bool {
        matches!(
            self,
            Self::Overloaded | Self::RateLimited | Self::BulkheadFull | Self::Draining | Self::Unauthenticated
        )
    }
}

/// The word of a failed answer, left in a response's extensions for the layer that observes it.
///
/// A rejection leaves its [`Cause`]'s word, a domain problem its own `code`. It becomes the `error.type` attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorType(pub &'static str);

impl From<Cause> for ErrorType {
    fn from(cause: Cause) -> Self {
        Self(cause.as_str())
    }
}

/// Left in the extensions of a response with which the chassis itself turned a request away; the observer counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal(pub(crate) Cause);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_a_word_of_its_own() {
        let words: std::collections::HashSet<_> = Cause::ALL.iter().map(|c| c.as_str()).collect();
        assert_eq!(words.len(), Cause::ALL.len());
    }

    #[test]
    fn every_cause_is_an_error_on_both_transports() {
        for cause in Cause::ALL {
            assert!(cause.http_status().as_u16() >= 400, "{cause:?}");
            assert_ne!(cause.grpc_code(), Code::Ok, "{cause:?}");
        }
    }
}
