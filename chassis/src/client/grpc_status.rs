//! The gRPC status of answers that have none of their own.
//!
//! A proxy on the way answers in its own terms, for instance 503 with a page of HTML; a stream may end without trailers. Next
//! to the connections such an answer gets the status that gRPC has for it (gRPC, "HTTP to gRPC Status Code Mapping"). So the
//! caller, the metrics, the span, the breaker, the balancer and the retries have one code. A `grpc-status` that the answer
//! has is left as it is, whatever the HTTP status.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::Status;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    body::RequestBody,
    facts::Facts,
    outcome::{GRPC_STATUS, code_of_status},
};
use crate::{context::Protocol, error::BoxError};

/// The content type of gRPC; a suffix and parameters may follow (gRPC over HTTP/2, "Content-Type").
const GRPC: &str = "application/grpc";

/// Gives each answer to a gRPC call a gRPC status. See the [module](self).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct GrpcStatusLayer;

impl<S> Layer<S> for GrpcStatusLayer {
    type Service = GrpcStatusService<S>;

    fn layer(&self, inner: S) -> GrpcStatusService<S> {
        GrpcStatusService { inner }
    }
}

/// See [`GrpcStatusLayer`].
#[derive(Debug, Clone)]
pub(crate) struct GrpcStatusService<S> {
    inner: S,
}

impl<S, B> Service<Request<RequestBody>> for GrpcStatusService<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = BoxError>,
    B: Body,
{
    type Response = Response<GrpcStatusBody<B>>;
    type Error = BoxError;
    type Future = GrpcStatusFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let protocol = Facts::of(&request).protocol;
        GrpcStatusFuture { inner: self.inner.call(request), protocol }
    }
}

pin_project! {
    /// The answer of the service inside, with a gRPC status when the call is gRPC's.
    pub(crate) struct GrpcStatusFuture<F> {
        #[pin]
        inner: F,
        protocol: Protocol,
    }
}

impl<F, B> Future for GrpcStatusFuture<F>
where
    F: Future<Output = Result<Response<B>, BoxError>>,
    B: Body,
{
    type Output = Result<Response<GrpcStatusBody<B>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answered = ready!(this.inner.poll(cx));
        Poll::Ready(answered.map(|response| with_status(*this.protocol, response)))
    }
}

impl<F> fmt::Debug for GrpcStatusFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcStatusFuture").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

/// The answer with the status that it lacks: in its head when it is not gRPC, else in its trailers once they lack it too.
fn with_status<B: Body>(protocol: Protocol, response: Response<B>) -> Response<GrpcStatusBody<B>> {
    if protocol == Protocol::Http || response.headers().contains_key(GRPC_STATUS) {
        return response.map(|body| GrpcStatusBody { inner: Some(body), owed: None });
    }
    let status = response.status();
    let content_type = response.headers().get(header::CONTENT_TYPE);
    let grpc = content_type.is_some_and(|value| is_grpc(protocol, value.as_bytes()));
    if grpc && !response.body().is_end_stream() {
        // The trailers of gRPC-Web are a part of its body.
        let owed = (protocol == Protocol::Grpc).then_some(status);
        return response.map(|body| GrpcStatusBody { inner: Some(body), owed });
    }
    let message = match content_type {
        _ if grpc => format!("found HTTP {status} without grpc-status"),
        Some(found) => format!("found HTTP {status} with content-type {found:?}, expected {GRPC}"),
        None => format!("found HTTP {status} without content-type, expected {GRPC}"),
    };
    let (mut parts, _) = response.into_parts();
    // They describe the body that is left out.
    for name in [header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::TRANSFER_ENCODING] {
        parts.headers.remove(name);
    }
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(GRPC));
    write_status(&mut parts.headers, status, &message);
    Response::from_parts(parts, GrpcStatusBody { inner: None, owed: None })
}

/// Returns whether this is a content type of the protocol.
fn is_grpc(protocol: Protocol, content_type: &[u8]) -> bool {
    let web = protocol == Protocol::GrpcWeb;
    let lower = content_type.to_ascii_lowercase();
    let Some(mut rest) = lower.strip_prefix(GRPC.as_bytes()) else { return false };
    if web {
        let Some(after) = rest.strip_prefix(b"-web") else { return false };
        rest = after.strip_prefix(b"-text").unwrap_or(after);
    }
    rest.first().is_none_or(|next| matches!(next, b'+' | b';' | b' ' | b'\t'))
}

fn write_status(headers: &mut HeaderMap, status: StatusCode, message: &str) {
    // The message is percent-encoded, and so always a header's value.
    let _ = Status::new(code_of_status(status.as_u16()), message).add_header(headers);
}

pin_project! {
    /// The body of an answer, with trailers that have a gRPC status.
    pub(crate) struct GrpcStatusBody<B> {
        #[pin]
        inner: Option<B>,
        // The HTTP status of an answer whose gRPC status has not come yet.
        owed: Option<StatusCode>,
    }
}

impl<B: Body> Body for GrpcStatusBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let Some(inner) = this.inner.as_pin_mut() else { return Poll::Ready(None) };
        let Some(status) = *this.owed else { return inner.poll_frame(cx) };
        let mut trailers = match ready!(inner.poll_frame(cx)) {
            Some(Ok(frame)) => match frame.into_trailers() {
                Ok(trailers) => trailers,
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            },
            Some(Err(error)) => {
                *this.owed = None;
                return Poll::Ready(Some(Err(error)));
            }
            None => HeaderMap::new(),
        };
        *this.owed = None;
        if !trailers.contains_key(GRPC_STATUS) {
            let message = format!("found HTTP {status} and an end without grpc-status");
            write_status(&mut trailers, status, &message);
        }
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.owed.is_none() && self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<B: fmt::Debug> fmt::Debug for GrpcStatusBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcStatusBody").field("inner", &self.inner).field("owed", &self.owed).finish()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
    use tonic::Code;

    use super::*;
    use crate::client::{Outcome, outcome::code_in};

    fn answer(status: u16, content_type: Option<&'static str>, code: Option<&'static str>) -> Response<Full<Bytes>> {
        let mut response = Response::builder().status(status).header("content-length", "5");
        if let Some(content_type) = content_type {
            response = response.header("content-type", content_type);
        }
        if let Some(code) = code {
            response = response.header("grpc-status", code);
        }
        response.body(Full::from("<html")).unwrap()
    }

    #[tokio::test]
    async fn an_answer_that_is_no_grpc_has_the_mapped_code() {
        for (status, code, outcome) in [
            (400, Code::Internal, Outcome::Failed),
            (401, Code::Unauthenticated, Outcome::Success),
            (403, Code::PermissionDenied, Outcome::Success),
            (404, Code::Unimplemented, Outcome::Success),
            (429, Code::Unavailable, Outcome::Failed),
            (502, Code::Unavailable, Outcome::Failed),
            (503, Code::Unavailable, Outcome::Failed),
            (504, Code::Unavailable, Outcome::Failed),
            (200, Code::Unknown, Outcome::Failed),
            (204, Code::Unknown, Outcome::Failed),
            (301, Code::Unknown, Outcome::Failed),
            (418, Code::Unknown, Outcome::Failed),
            (500, Code::Unknown, Outcome::Failed),
            (501, Code::Unknown, Outcome::Failed),
        ] {
            for content_type in [Some("text/html; charset=utf-8"), Some("application/grpcx"), None] {
                let response = with_status(Protocol::Grpc, answer(status, content_type, None));
                let told = Status::from_header_map(response.headers()).unwrap();
                assert_eq!(told.code(), code, "{status} {content_type:?}");
                assert!(told.message().contains(&status.to_string()), "{}", told.message());
                assert_eq!(Outcome::of_head(Protocol::Grpc, &response), Some(outcome), "{status}");
                assert!(response.body().is_end_stream() && !response.headers().contains_key("content-length"));
                assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty(), "no page for the decoder");
                // A layer that is used alone has the same from the bare answer, when its status is none of gRPC's.
                let bare = Outcome::of_head(Protocol::Grpc, &answer(status, content_type, None));
                assert_eq!(bare, (status != 200).then_some(outcome), "{status}");
            }
        }
    }

    #[test]
    fn a_grpc_status_in_the_head_is_kept_whatever_the_http_status() {
        let response = with_status(Protocol::Grpc, answer(503, Some("text/html"), Some("7")));
        assert_eq!(code_in(response.headers()), Some(Code::PermissionDenied));
        assert_eq!(Outcome::of_head(Protocol::Grpc, &response), Some(Outcome::Success));
    }

    #[test]
    fn an_answer_over_http_stays_as_it_is() {
        let response = with_status(Protocol::Http, answer(503, Some("text/html"), None));
        assert_eq!(
            (response.headers().get("grpc-status"), response.headers()["content-length"].as_bytes()),
            (None, &b"5"[..])
        );
    }

    #[test]
    fn the_content_type_of_the_protocol_is_told_from_others() {
        for (protocol, content_type, expected) in [
            (Protocol::Grpc, "application/grpc", true),
            (Protocol::Grpc, "Application/gRPC+proto", true),
            (Protocol::Grpc, "application/grpc;charset=utf-8", true),
            (Protocol::Grpc, "application/grpc-web", false),
            (Protocol::Grpc, "application/json", false),
            (Protocol::GrpcWeb, "application/grpc-web+proto", true),
            (Protocol::GrpcWeb, "application/grpc-web-text", true),
            (Protocol::GrpcWeb, "application/grpc", false),
        ] {
            assert_eq!(is_grpc(protocol, content_type.as_bytes()), expected, "{protocol:?} {content_type}");
        }
    }

    #[tokio::test]
    async fn a_stream_that_ends_without_a_status_gets_one() {
        type Part = UnsyncBoxBody<Bytes, std::convert::Infallible>;
        let trailers =
            |name: &'static str| HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_static("5"))]);
        let page = || Full::from("\0\0\0\0\0");
        for (status, body, code) in [
            (200, page().boxed_unsync(), Code::Unknown),
            (503, page().boxed_unsync(), Code::Unavailable),
            (
                200,
                page().with_trailers(std::future::ready(Some(Ok(trailers("x-other"))))).boxed_unsync(),
                Code::Unknown,
            ),
            (
                503,
                page().with_trailers(std::future::ready(Some(Ok(trailers("grpc-status"))))).boxed_unsync(),
                Code::NotFound,
            ),
        ] as [(u16, Part, Code); 4]
        {
            let response = Response::builder().status(status).header("content-type", "application/grpc");
            let mut body = with_status(Protocol::Grpc, response.body(body).unwrap()).into_body();
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "\0\0\0\0\0");
            assert!(!body.is_end_stream(), "the trailers are owed");
            let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
            assert_eq!(code_in(&trailers), Some(code), "{status} {trailers:?}");
            assert!(body.frame().await.is_none(), "one status, one end");
        }
    }

    #[test]
    fn a_head_that_ends_without_a_status_gets_one() {
        let response = Response::builder().header("content-type", "application/grpc").body(Full::<Bytes>::default());
        let response = with_status(Protocol::Grpc, response.unwrap());
        assert_eq!(code_in(response.headers()), Some(Code::Unknown));
    }
}
