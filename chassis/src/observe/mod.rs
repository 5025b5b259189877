//! The outermost layer: gives a request its trace and sees how it ends, whatever happens inside.
//!
//! It reads the trace context, decides on sampling, counts the request in flight, and when the response body has ended,
//! or the caller has gone, it records the duration, writes the access line and, for a sampled request, hands the server
//! span to the exporter. All of that is made directly and cached per route, not through `tracing`: a span through
//! tracing-opentelemetry costs 800 ns even when it is not sampled, this whole layer about half of that.
//!
//! Spans that a handler makes with `tracing` become children of this request's span, because the request is the current
//! OpenTelemetry context while its handler is polled.
//!
//! A request ends in one of three ways: complete (the body was handed over to the end), failed (the body broke off), or
//! aborted (the caller went away first). An aborted request leaves no gauge behind: everything hangs on one value that is
//! dropped with the request.
//!
//! The chassis puts this layer around every service itself; it cannot be made outside of the chassis yet.

mod body;
pub(crate) mod connection;
mod cookies;
mod exchange;
mod failure;
mod layer;
mod length;
pub(crate) mod route;
mod web;

pub use body::ObservedBody;
pub(crate) use exchange::Observer;
pub use failure::{FailedRequest, FailureObserver};
pub use layer::{Observe, ObserveLayer, ResponseFuture};
pub(crate) use web::GrpcWebStatusLayer;

/// The response header that carries the request's trace id, 32 hexadecimal digits.
pub const TRACE_ID_HEADER: http::HeaderName = http::HeaderName::from_static("x-trace-id");
