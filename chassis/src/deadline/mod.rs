//! The time a request may take: the caller's, the route's, or the server's, whichever ends first.
//!
//! A gRPC caller says it in `grpc-timeout`, an HTTP caller in [`TIMEOUT_HEADER`]; both are relative, so clocks need not
//! agree. Work whose time is already up is refused before it starts. When the time ends while the handler runs, the
//! handler's future is dropped and the caller hears `deadline_exceeded`: 504 over HTTP, or 408 when the handler waited for
//! the caller's own body, and DEADLINE_EXCEEDED over gRPC.
//!
//! An answer that lies ready is delivered, also when the deadline has passed by then: it may be the very one that reports
//! the passed deadline of a call out. The caller's deadline also covers a streamed body that waits for more: a gRPC stream
//! ends with a DEADLINE_EXCEEDED trailer, an HTTP body is broken off, since its status has been sent. The server's own limit covers the time until the response head only: an
//! event stream may live longer than any request should take to answer. The same holds for a route's own limit.
//!
//! A request that is answered at its first poll never registers a timer.

mod body;
mod layer;
mod parse;

pub use body::DeadlineBody;
pub use layer::{Deadline, DeadlineLayer, ResponseFuture};
pub use parse::{grpc_timeout, http_timeout};

/// The HTTP header in which a caller says how many milliseconds it still waits: `x-request-timeout-ms: 250`.
///
/// No standard names such a header; this one is relative, as `grpc-timeout` is, because clocks differ between machines.
pub const TIMEOUT_HEADER: http::HeaderName = http::HeaderName::from_static("x-request-timeout-ms");

/// The gRPC header for the same (gRPC over HTTP/2, "Timeout").
pub const GRPC_TIMEOUT: http::HeaderName = http::HeaderName::from_static("grpc-timeout");
