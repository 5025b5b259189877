//! gRPC over a destination: what a tonic client is made with.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tokio::time::Instant;
use tonic::Status;
use tower_service::Service;

use super::{
    body::RequestBody,
    call::CallInfo,
    destination::Destination,
    error::NotSent,
    outcome::{TimedOut, code_of_error, is_late_connection, is_no_connection, is_untouched},
    pool::TooLarge,
};
use crate::{
    cause::Cause,
    context::Protocol,
    deadline::{GRPC_TIMEOUT, grpc_timeout}, // floor: one name and one grammar for both ends
    error::{BoxError, chain},
    problem::Problem,
};

/// A way to another service over gRPC: what a client that tonic has generated is made with. Cheap to clone.
///
/// ```no_run
/// # mod pb { pub struct InventoryClient(chassis::client::Channel);
/// # impl InventoryClient { pub fn new(channel: chassis::client::Channel) -> Self { Self(channel) } } }
/// # fn run(chassis: &chassis::Chassis) -> chassis::Result<()> {
/// let inventory = pb::InventoryClient::new(chassis.channel("inventory")?);
/// # Ok(()) }
/// ```
///
/// The time of a call is what its `grpc-timeout` says (`tonic::Request::set_timeout`), or the destination's `timeout`; and
/// never more than what is left of the request being served. It covers the whole answer, also of a stream: a stream that is
/// to live longer says so itself.
///
/// A call that comes to nothing is a [`tonic::Status`] like any other. Its `ErrorInfo.reason` is the word of the
/// [`Cause`], and its `RetryInfo` how long to wait, when that is known:
///
/// | what went wrong | code | reason |
/// | --- | --- | --- |
/// | no connection, or nobody has looked at the request | UNAVAILABLE | `no_endpoints` |
/// | held back by a layer | UNAVAILABLE or RESOURCE_EXHAUSTED | `circuit_open`, `bulkhead_full` … |
/// | the time was up | DEADLINE_EXCEEDED | `deadline_exceeded` |
/// | the head of the answer is larger than `pool.max_head_size` | RESOURCE_EXHAUSTED | |
/// | the connection broke | UNAVAILABLE | |
#[derive(Clone)]
pub struct Channel(Arc<Destination>);

/// In the extensions of a gRPC request: a second call with the same message does no harm, so that it may be retried and
/// hedged. `clients.….idempotent` says the same of a method.
///
/// ```
/// let mut request = tonic::Request::new(());
/// request.extensions_mut().insert(chassis::client::Idempotent);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Idempotent;

impl Channel {
    pub(crate) fn new(destination: Arc<Destination>) -> Self {
        Self(destination)
    }

    /// What the layers are told of a call.
    fn info(&self, request: &Request<RequestBody>) -> CallInfo {
        let path = request.uri().path();
        let (timeout, idempotent) = self.0.rules_of(path);
        let written = request.headers().get(GRPC_TIMEOUT).and_then(|value| grpc_timeout(value.as_bytes()));
        let idempotent = idempotent || request.extensions().get::<Idempotent>().is_some();
        // A time beyond what the clock can say is no limit.
        CallInfo::new("", idempotent, Instant::now().checked_add(written.unwrap_or(timeout)), Protocol::Grpc)
    }
}

impl Service<Request<tonic::body::Body>> for Channel {
    type Response = Response<tonic::body::Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let mut request = request.map(RequestBody::stream);
        let info = self.info(&request);
        request.extensions_mut().insert(info);
        let answered = self.0.stack().send_grpc(request);
        let destination = Arc::clone(&self.0);
        Box::pin(async move { answered.await.map_err(|error| status(destination.name(), error)) })
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Channel").field(&self.0).finish()
    }
}

/// What the caller is told of a call that came to nothing, at once or in the middle of its answer.
fn status(destination: &str, error: BoxError) -> Status {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&*error);
    let mut found = None;
    while let Some(inner) = source {
        if let Some(not_sent) = inner.downcast_ref::<NotSent>() {
            let problem = told(not_sent.cause(), format!("{destination}: {not_sent}"));
            let problem = not_sent.wait().into_iter().fold(problem, Problem::retry_after);
            found = Some(problem.into_status());
        } else if inner.is::<TimedOut>() || is_late_connection(inner) {
            found = Some(told(Cause::DeadlineExceeded, format!("{destination}: {inner}")).into_status());
        } else if is_no_connection(inner) || is_untouched(inner) {
            found = Some(told(Cause::NoEndpoints, format!("{destination}: {}", chain(inner))).into_status());
        } else if inner.is::<TooLarge>() {
            // As gRPC's own clients have it.
            found = Some(Status::new(code_of_error(inner), format!("{destination}: {inner}")));
        } else if let Some(status) = inner.downcast_ref::<Status>() {
            // One that a layer of the user's own has made.
            found = Some(Status::with_details_and_metadata(
                status.code(),
                status.message(),
                Bytes::copy_from_slice(status.details()),
                status.metadata().clone(),
            ));
        } else if let Some(h2) = inner.downcast_ref::<h2::Error>() {
            found = Some(Status::new(code_of_error(inner), format!("{destination}: {h2}")));
        }
        if found.is_some() {
            break;
        }
        source = inner.source();
    }
    // The connection broke: what became of the call is not known.
    let mut status = found.unwrap_or_else(|| Status::unavailable(format!("{destination}: {}", chain(&*error))));
    status.set_source(error.into());
    status
}

/// The body of an answer. One that breaks off in the middle is told as a call that comes to nothing; tonic itself would say
/// UNKNOWN of what it does not know.
pub(crate) fn answer_body<B>(body: B, destination: Arc<str>) -> tonic::body::Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    tonic::body::Body::new(body.map_err(move |error| status(&destination, error.into())))
}

/// It says nothing of a retry of what this service was asked: that is not known to be safe.
fn told(cause: Cause, detail: String) -> Problem {
    Problem::from(cause).retry_safe(false).detail(detail)
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn the_caller_and_the_metrics_have_one_code() {
        let h2 = |reason: h2::Reason| BoxError::from(h2::Error::from(reason));
        for error in [
            NotSent::new(Cause::BulkheadFull).into(),
            NotSent::new(Cause::CircuitOpen).into(),
            TimedOut.into(),
            BoxError::from(crate::client::outcome::Unconnected { over: true }),
            BoxError::from(crate::client::outcome::Unconnected { over: false }),
            Status::permission_denied("a layer of the service's own").into(),
            h2(h2::Reason::CANCEL),
            h2(h2::Reason::ENHANCE_YOUR_CALM),
            h2(h2::Reason::PROTOCOL_ERROR),
            "the connection broke".into(),
        ] {
            let code = code_of_error(&*error);
            let text = error.to_string();
            assert_eq!(status("inventory", error).code(), code, "{text}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_in_the_middle_is_unavailable() {
        let broken: BoxError = std::io::Error::from(std::io::ErrorKind::ConnectionReset).into();
        for (error, code) in [
            (broken, Code::Unavailable),
            (h2::Error::from(h2::Reason::INTERNAL_ERROR).into(), Code::Internal),
            (TimedOut.into(), Code::DeadlineExceeded),
            (Status::aborted("by a layer").into(), Code::Aborted),
        ] {
            let body = http_body_util::StreamBody::new(Broken(Some(error)));
            let status = answer_body(body, "inventory".into()).collect().await.expect_err("it breaks off");
            assert_eq!(status.code(), code, "{status}");
        }
    }

    struct Broken(Option<BoxError>);

    impl futures_core::Stream for Broken {
        type Item = Result<http_body::Frame<Bytes>, BoxError>;

        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Poll::Ready(self.0.take().map(Err))
        }
    }
}
