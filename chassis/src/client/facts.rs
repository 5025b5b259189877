//! What the layers of a call read of its request before they let go of it.

use http::{HeaderMap, Request, header};
use tokio::time::Instant;

use super::call::{CallInfo, Passage};
use crate::context::Protocol;

/// What a layer needs to know of a call, copied out of the request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// Whether the call may be sent twice.
    pub(crate) idempotent: bool,
    /// When the call is given up.
    pub(crate) deadline: Option<Instant>,
    pub(crate) protocol: Protocol,
    /// Whether its answer may outlive the deadline.
    pub(crate) streamed: bool,
    /// Whether its service must not be told the deadline.
    pub(crate) hides_time: bool,
}

impl Facts {
    pub(crate) fn told(info: &CallInfo) -> Self {
        let CallInfo { idempotent, deadline, protocol, .. } = *info;
        let Passage { streamed, hides_time, .. } = info.passage;
        Self { idempotent, deadline, protocol, streamed, hides_time }
    }

    /// From [`CallInfo`]; without one, as when a layer is used alone, from the request itself: its method, its content type.
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        if let Some(info) = request.extensions().get::<CallInfo>() {
            return Self::told(info);
        }
        let protocol = protocol(request.headers());
        // Every gRPC call is a POST; only a declaration says more.
        let idempotent = request.method().is_idempotent();
        Self { idempotent, deadline: None, protocol, streamed: false, hides_time: false }
    }
}

fn protocol(headers: &HeaderMap) -> Protocol {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    if content_type.starts_with(b"application/grpc-web") {
        Protocol::GrpcWeb
    } else if content_type.starts_with(b"application/grpc") {
        Protocol::Grpc
    } else {
        Protocol::Http
    }
}

/// How often the request being served was tried before by its caller; in the extensions of a call out. Absent, it is the
/// first time.
///
/// A call that is made for a retry is not retried or hedged itself: retries at several layers multiply (Google's SRE book,
/// "Addressing cascading failures": retry at one layer).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamAttempt(pub u32);

impl UpstreamAttempt {
    /// Whether the call is made for a request that is a retry.
    pub(crate) fn is_retry<B>(request: &Request<B>) -> bool {
        request.extensions().get::<Self>().is_some_and(|upstream| upstream.0 > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_call_info_the_request_speaks_for_itself() {
        for (method, content_type, idempotent, protocol) in [
            ("GET", "application/json", true, Protocol::Http),
            ("POST", "application/json", false, Protocol::Http),
            ("POST", "application/grpc+proto", false, Protocol::Grpc),
            ("POST", "application/grpc-web", false, Protocol::GrpcWeb),
        ] {
            let request = Request::builder().method(method).header("content-type", content_type).body(()).unwrap();
            let facts = Facts::of(&request);
            assert_eq!((facts.idempotent, facts.protocol), (idempotent, protocol), "{method} {content_type}");
        }
    }
}
