//! How a layer of the chassis turns a request away: one cause, in the caller's protocol.

use axum::body::Body;
use http::{
    HeaderValue, Method, Response,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use http_body::Body as _;

use crate::{
    cause::{Cause, Refusal},
    context::{Protocol, RequestContext},
    problem::Problem,
};

/// The answer to a request that is turned away for `cause`.
///
/// The word is left in the response's extensions; the observer counts it from there, so that every rejection is seen once.
#[must_use]
pub fn reject(cause: Cause, protocol: Protocol) -> Response<Body> {
    reject_with(Problem::from(cause), cause, protocol)
}

/// The answer to a request that is turned away for `cause`, with a problem that says more of it.
#[must_use]
pub fn reject_with(problem: Problem, cause: Cause, protocol: Protocol) -> Response<Body> {
    let mut response = answer(problem, protocol);
    response.extensions_mut().insert(Refusal(cause));
    response
}

/// The answer with a problem of the caller's choice, in the caller's protocol.
#[must_use]
pub fn answer(problem: Problem, protocol: Protocol) -> Response<Body> {
    match protocol {
        Protocol::Http => {
            let (trace_id, head) = RequestContext::with_current(|context| {
                (context.map(|c| c.trace().trace_id), context.is_some_and(|c| c.0.method == Method::HEAD))
            });
            let response = problem.into_http(trace_id);
            if head { without_body(response) } else { response }
        }
        Protocol::Grpc => problem.into_grpc(),
        Protocol::GrpcWeb => {
            // gRPC-Web reads a trailers-only answer from the headers too, under its own content type.
            let mut response = problem.into_grpc();
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc-web+proto"));
            response
        }
    }
}

/// The answer to HEAD: what GET would hear, without the body. Only HTTP/1.1 leaves bodies of such answers out by itself.
fn without_body(response: Response<Body>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(parts, Body::empty())
}
