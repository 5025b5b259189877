//! The breaker of an endpoint and the counts of the endpoint judge every attempt alike.

use tower::ServiceBuilder;

use super::*;
use crate::{
    client::{
        RequestBody,
        breaker::{Breaker, BreakerConfig, BreakerLayer},
        deadline::{AttemptTimeout, AttemptTimeoutLayer, DeadlineLayer},
        grpc_status::GrpcStatusLayer,
    },
    clock,
};

/// Less than an endpoint is to have before its first answer.
const HURRIED: Duration = Duration::from_millis(50);
const PATIENT: Duration = Duration::from_secs(5);

/// The stack of one endpoint around a way out, with a breaker that never opens.
struct Seen {
    fixture: Fixture,
    breaker: Breaker,
    endpoint: Arc<EndpointStats>,
}

/// How an attempt is to be counted by both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judged {
    Success,
    Failed,
    TimedOut,
    /// It says nothing of the endpoint.
    Not,
}

impl Seen {
    async fn new() -> Self {
        let config = BreakerConfig { consecutive_failures: 0, failure_rate: 0.0, ..BreakerConfig::default() };
        Self { fixture: Fixture::unsampled().await, breaker: Breaker::new(&config), endpoint: nowhere() }
    }

    /// Sends the request, with this much time, and hands the answer to `read`.
    async fn call<R>(
        &self,
        mut request: Request<RequestBody>,
        time: Duration,
        answer: Script,
        read: impl FnOnce(Read) -> R,
    ) where
        R: Future<Output = ()>,
    {
        CallInfo::with(&mut request, |info| info.deadline = Some(Instant::now() + time));
        let mut stack = ServiceBuilder::new()
            .layer(DeadlineLayer::new())
            .layer(BreakerLayer::new(self.breaker.clone()))
            .layer(AttemptLayer::new(Arc::clone(&self.fixture.observer), Arc::clone(&self.endpoint)))
            .layer(AttemptTimeoutLayer::new(AttemptTimeout::new(None)))
            .layer(GrpcStatusLayer)
            .service(answer);
        let answered = stack.call(request).await;
        read(answered.map(|response| Body::new(response.into_body()))).await;
    }

    fn judged(&self, as_what: Judged, case: &str) {
        let (counts, breaker) = (self.endpoint.counts(), self.breaker.counts(clock::now()));
        let found = (counts.success, counts.failed, counts.timed_out, counts.cancelled, breaker.calls, breaker.failed);
        let expected = match as_what {
            Judged::Success => (1, 0, 0, 0, 1, 0),
            Judged::Failed => (0, 1, 0, 0, 1, 1),
            Judged::TimedOut => (0, 0, 1, 0, 1, 1),
            Judged::Not => (0, 0, 0, 1, 0, 0),
        };
        assert_eq!(found, expected, "{case}");
        let bad = matches!(as_what, Judged::Failed | Judged::TimedOut);
        assert_eq!(self.endpoint.last_error().is_some(), bad, "{case}: {:?}", self.endpoint.last_error());
        assert_eq!(counts.active, 0, "{case}");
    }
}

type Read = Result<Body, BoxError>;

/// An answer of these parts, which then hangs, or breaks off, or ends.
fn parts(content_type: &'static str, items: Vec<Result<Frame<Bytes>, BoxError>>, hangs: bool) -> Script {
    struct Parts(std::collections::VecDeque<Result<Frame<Bytes>, BoxError>>, bool);
    impl futures_core::Stream for Parts {
        type Item = Result<Frame<Bytes>, BoxError>;

        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Self::Item>> {
            match self.0.pop_front() {
                None if self.1 => std::task::Poll::Pending,
                next => std::task::Poll::Ready(next),
            }
        }
    }
    let body = Body::new(StreamBody::new(Parts(items.into(), hangs)));
    Script::of([Ok(Response::builder().header("content-type", content_type).body(body).unwrap())])
}

fn data() -> Result<Frame<Bytes>, BoxError> {
    Ok(Frame::data(Bytes::from_static(b"\0\0\0\0\0")))
}

fn trailers(code: &'static str) -> Result<Frame<Bytes>, BoxError> {
    Ok(Frame::trailers(HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static(code),
    )])))
}

fn page(status: u16) -> Script {
    Script::of([Ok(Response::builder()
        .status(status)
        .header("content-type", "text/html")
        .body(Body::from("<"))
        .unwrap())])
}

fn http() -> Request<RequestBody> {
    get("http://inventory/items/7")
}

/// Reads the answer to its end, however that is.
async fn whole(answer: Read) {
    if let Ok(body) = answer {
        let _ = body.collect().await;
    }
}

/// Reads one part and then has no more interest.
async fn one(answer: Read) {
    let _ = answer.unwrap().frame().await;
}

/// Reads one part, then holds the answer beyond its deadline without a look at it.
async fn one_and_late(answer: Read) {
    let mut body = answer.unwrap();
    let _ = body.frame().await;
    advance(2 * PATIENT).await;
}

/// Holds the answer beyond its deadline without a look at it.
async fn late(answer: Read) {
    let _body = answer.unwrap();
    advance(2 * PATIENT).await;
}

const GRPC: &str = "application/grpc";

#[tokio::test(start_paused = true)]
async fn an_attempt_without_time_counts_nowhere() {
    let seen = Seen::new().await;
    seen.call(http(), HURRIED, Script::silent(), whole).await;
    seen.judged(Judged::Not, "50 ms left and no answer");
    let timed_out = ["error_type=\"timed_out\""];
    let attempts = seen.fixture.count("http_client_request_duration_seconds_count", &timed_out);
    assert_eq!(attempts, 1.0, "the attempt itself timed out");
}

#[tokio::test(start_paused = true)]
async fn a_stream_with_a_message_counts_nowhere_when_it_is_cut() {
    let seen = Seen::new().await;
    seen.call(rpc(), PATIENT, parts(GRPC, vec![data()], true), one_and_late).await;
    seen.judged(Judged::Not, "dropped after its deadline");
    let seen = Seen::new().await;
    seen.call(rpc(), PATIENT, parts(GRPC, vec![data()], true), whole).await;
    seen.judged(Judged::Not, "ended by its deadline");
    let code = ["rpc_response_status_code=\"DEADLINE_EXCEEDED\""];
    assert_eq!(seen.fixture.count("rpc_client_call_duration_seconds_count", &code), 1.0, "as its caller sees it");
}

#[tokio::test(start_paused = true)]
async fn a_breaker_and_the_counts_never_disagree() {
    for (case, request, time, answer, judged) in [
        ("no answer", http(), PATIENT, Script::silent(), Judged::TimedOut),
        ("no answer over gRPC", rpc(), PATIENT, Script::silent(), Judged::TimedOut),
        ("no time over gRPC", rpc(), HURRIED, Script::silent(), Judged::Not),
        ("200", http(), PATIENT, Script::of([status(200)]), Judged::Success),
        ("404", http(), PATIENT, Script::of([status(404)]), Judged::Success),
        ("503", http(), PATIENT, Script::of([status(503)]), Judged::Failed),
        ("504", http(), PATIENT, Script::of([status(504)]), Judged::Failed),
        ("504 without time", http(), HURRIED, Script::of([status(504)]), Judged::Not),
        ("a broken connection", http(), PATIENT, Script::of([Err("reset".into())]), Judged::Failed),
        (
            "a broken body",
            http(),
            PATIENT,
            parts("text/plain", vec![data(), Err("reset".into())], false),
            Judged::Failed,
        ),
        ("a whole body", http(), PATIENT, parts("text/plain", vec![data(), data()], false), Judged::Success),
        ("a proxy's page", rpc(), PATIENT, page(503), Judged::Failed),
        ("a proxy's refusal", rpc(), PATIENT, page(403), Judged::Success),
        ("a page of 200", rpc(), PATIENT, page(200), Judged::Failed),
        ("OK", rpc(), PATIENT, parts(GRPC, vec![data(), trailers("0")], false), Judged::Success),
        ("INTERNAL", rpc(), PATIENT, parts(GRPC, vec![data(), trailers("13")], false), Judged::Failed),
        ("DEADLINE_EXCEEDED", rpc(), PATIENT, parts(GRPC, vec![trailers("4")], false), Judged::Failed),
        ("DEADLINE_EXCEEDED without time", rpc(), HURRIED, parts(GRPC, vec![trailers("4")], false), Judged::Not),
        ("no trailers", rpc(), PATIENT, parts(GRPC, vec![data()], false), Judged::Failed),
        ("a broken stream", rpc(), PATIENT, parts(GRPC, vec![data(), Err("reset".into())], false), Judged::Failed),
        ("a stream without a message", rpc(), PATIENT, parts(GRPC, vec![], true), Judged::TimedOut),
    ] {
        let seen = Seen::new().await;
        seen.call(request, time, answer, whole).await;
        seen.judged(judged, case);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_dropped_counts_alike() {
    let hangs = |content_type| parts(content_type, vec![data()], true);
    let seen = Seen::new().await;
    seen.call(http(), PATIENT, hangs("text/plain"), one).await;
    seen.judged(Judged::Success, "HTTP, in time");
    let seen = Seen::new().await;
    seen.call(http(), PATIENT, hangs("text/plain"), late).await;
    seen.judged(Judged::TimedOut, "HTTP, late");
    let seen = Seen::new().await;
    seen.call(http(), HURRIED, hangs("text/plain"), late).await;
    seen.judged(Judged::Not, "HTTP, late without time");
    let seen = Seen::new().await;
    seen.call(rpc(), PATIENT, hangs(GRPC), one).await;
    seen.judged(Judged::Not, "gRPC, in time");
    let seen = Seen::new().await;
    seen.call(rpc(), PATIENT, parts(GRPC, vec![], true), late).await;
    seen.judged(Judged::TimedOut, "gRPC, late without a message");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_before_its_answer_counts_alike() {
    for patience in [PATIENT / 2, 2 * PATIENT] {
        let seen = Seen::new().await;
        let call = seen.call(http(), PATIENT, Script::silent(), whole);
        let mut call = Box::pin(call);
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(call.as_mut().poll(&mut cx).is_pending());
        advance(patience).await;
        drop(call);
        seen.judged(Judged::Not, "given up from outside");
    }
}
