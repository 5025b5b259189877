//! Failure observers hear of what was turned away and what failed, once, whichever protocol; and they harm nobody.

use std::sync::Mutex;

use axum::{Router, body::Body, routing::get};
use bytes::Bytes;
use chassis::{
    Chassis, Problem,
    context::Protocol,
    observe::{FailedRequest, FailureObserver},
    service::Events,
    testing::{TestService, log_lines},
};
use http_body::Frame;
use tokio::sync::mpsc;
use tonic::{Code, codegen::tokio_stream};

use crate::support::{
    echo::{Client, Echo},
    raw::{PATIENCE, Raw},
    scrape::{sum, until_nothing_is_in_flight},
    witness::Witness,
};

/// What an observer saw of one request.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    kind: &'static str,
    error_type: String,
    cause: Option<&'static str>,
    protocol: Protocol,
    route: Option<String>,
    request: String,
    status: Option<u16>,
    code: Option<Code>,
    trace_id: String,
    inside: Option<String>,
    panic: Option<String>,
    has_peer: bool,
}

struct Watch(mpsc::Sender<Seen>);

impl Watch {
    fn see(&self, kind: &'static str, request: &FailedRequest<'_>) {
        assert!(request.duration() > std::time::Duration::ZERO);
        assert!(request.span_id() != opentelemetry::trace::SpanId::INVALID);
        assert_eq!(chassis::RequestContext::current().unwrap().trace().trace_id, request.trace_id());
        let told = self.0.try_send(Seen {
            kind,
            error_type: request.error_type().into_owned(),
            cause: request.cause().map(chassis::cause::Cause::as_str),
            protocol: request.protocol(),
            route: request.route().map(str::to_owned),
            request: format!("{} {}", request.method(), request.path()),
            status: request.status(),
            code: request.grpc_code(),
            trace_id: request.trace_id().to_string(),
            inside: request.inside().map(str::to_owned),
            panic: request.panic().map(str::to_owned),
            has_peer: request.peer().is_some(),
        });
        assert!(told.is_ok());
    }
}

impl FailureObserver for Watch {
    fn rejected(&self, request: &FailedRequest<'_>) {
        self.see("rejected", request);
    }

    fn failed(&self, request: &FailedRequest<'_>) {
        self.see("failed", request);
    }

    fn declined(&self, request: &FailedRequest<'_>) {
        self.see("declined", request);
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the store failed")]
struct StoreError(#[source] std::io::Error);

fn store_failed() -> Problem {
    let source = std::io::Error::other("disk 7 is gone");
    Problem::unavailable("store_down").explained_by(&StoreError(source))
}

/// A body whose second piece never comes: it breaks off.
struct Breaks(Option<Bytes>);

impl http_body::Body for Breaks {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let piece = self.0.take().map(Frame::data).ok_or_else(|| std::io::Error::other("torn"));
        std::task::Poll::Ready(Some(piece))
    }
}

fn routes(witness: Witness) -> Router {
    Router::new()
        .route("/fine", get(|| async { "fine" }))
        .route("/store/{id}", get(|| async { store_failed() }))
        .route("/bare", get(|| async { http::StatusCode::BAD_GATEWAY }))
        .route("/missing", get(|| async { Problem::not_found("unknown_thing") }))
        .route("/panic", get(|| async { panic!("out of {}", "stock") as &str }))
        .route("/breaks", get(|| async { Body::new(Breaks(Some(Bytes::from("piece")))) }))
        .route("/hang", get(move || witness.hang()))
}

/// A stream that fails after its head was sent.
struct Feed;

#[chassis::service]
impl Feed {
    #[get("/feed")]
    async fn feed(&self) -> Events<u32> {
        Events::fallible(tokio_stream::iter([Ok(7), Err(Problem::unavailable("feed_down"))]))
    }
}

struct Observed {
    service: TestService,
    witness: Witness,
    seen: mpsc::Receiver<Seen>,
}

impl Observed {
    async fn start(more: impl FnOnce(Chassis) -> Chassis) -> Self {
        let (watch, seen) = mpsc::channel(100);
        let witness = Witness::new();
        let (router, echo) = (routes(witness.clone()), Echo(Witness::new()));
        let service = TestService::builder().set("http.request_timeout", "5s");
        let make = |chassis: Chassis| more(chassis).mount(router).mount(Feed).grpc(echo).observer(Watch(watch));
        Self { service: service.start(make).await.unwrap(), witness, seen }
    }

    async fn next(&mut self) -> Seen {
        tokio::time::timeout(PATIENCE, self.seen.recv()).await.expect("an observer is told").unwrap()
    }

    async fn nothing_more(mut self) {
        until_nothing_is_in_flight(&self.service).await;
        assert!(self.seen.try_recv().is_err(), "told of more than what failed");
    }
}

#[tokio::test]
async fn each_failure_over_http_is_told_once_with_what_the_caller_never_sees() {
    let mut observed = Observed::start(|chassis| chassis).await;
    let inside = Some("the store failed: disk 7 is gone".to_owned());
    for (path, kind, error_type, cause, route, status, inside, panic) in [
        ("/store/7", "failed", "store_down", None, Some("/store/{id}"), 503, inside, None),
        ("/bare", "failed", "502", None, Some("/bare"), 502, None, None),
        ("/panic", "failed", "internal", Some("internal"), Some("/panic"), 500, None, Some("out of stock".to_owned())),
        ("/missing", "declined", "unknown_thing", None, Some("/missing"), 404, None, None),
        ("/nowhere", "rejected", "not_found", Some("not_found"), None, 404, None, None),
    ] {
        let answer = observed.service.get(path).await.unwrap();
        assert!(!answer.text().contains("disk 7") && !answer.text().contains("stock"), "{}", answer.text());
        let expected = Seen {
            kind,
            error_type: error_type.to_owned(),
            cause,
            protocol: Protocol::Http,
            route: route.map(str::to_owned),
            request: format!("GET {path}"),
            status: Some(status),
            code: None,
            trace_id: answer.header("x-trace-id").to_owned(),
            inside,
            panic,
            has_peer: true,
        };
        assert_eq!(observed.next().await, expected);
    }
    assert_eq!(observed.service.get("/fine").await.unwrap().status, 200);
    observed.nothing_more().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_failed_and_a_caller_that_left_did_not() {
    let mut observed = Observed::start(|chassis| chassis).await;
    let mut raw = Raw::connect(observed.service.http()).await;
    raw.send("GET /breaks HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(raw.answer().await.is_none());
    let seen = observed.next().await;
    assert_eq!((seen.kind, seen.error_type.as_str(), seen.status), ("failed", "broken_off", Some(200)));
    let mut leaves = Raw::connect(observed.service.http()).await;
    leaves.send("GET /hang HTTP/1.1\r\nhost: a\r\n\r\n").await;
    observed.witness.began(1).await;
    drop(leaves);
    observed.witness.ended(1).await;
    observed.nothing_more().await;
}

#[tokio::test]
async fn an_event_stream_that_fails_half_way_failed_whatever_its_status() {
    let mut observed = Observed::start(|chassis| chassis).await;
    let answer = observed.service.get("/feed").await.unwrap();
    assert!(answer.text().contains("feed_down"), "{}", answer.text());
    let seen = observed.next().await;
    assert_eq!((seen.kind, seen.error_type.as_str(), seen.status), ("failed", "feed_down", Some(200)));
    assert_eq!((seen.cause, seen.route.as_deref()), (None, Some("/feed")));
    observed.nothing_more().await;
}

#[tokio::test]
async fn a_deadline_is_a_rejection_of_the_chassis() {
    let mut observed = Observed::start(|chassis| chassis).await;
    let request = http::Request::get(format!("http://{}/hang", observed.service.http()));
    let request = request.header("x-request-timeout-ms", "50").body(String::new()).unwrap();
    assert_eq!(observed.service.send(request).await.unwrap().status, 504);
    let seen = observed.next().await;
    assert_eq!((seen.kind, seen.cause, seen.status), ("rejected", Some("deadline_exceeded"), Some(504)));
    observed.nothing_more().await;
}

#[tokio::test]
async fn a_hand_written_tonic_service_is_observed_as_all_else() {
    let mut observed = Observed::start(|chassis| chassis).await;
    let mut client = Client::connect(observed.service.http()).await;
    client.say("hello", "").await.unwrap();
    client.say("panic", "").await.unwrap_err();
    let seen = observed.next().await;
    assert_eq!((seen.kind, seen.protocol, seen.code), ("failed", Protocol::Grpc, Some(Code::Internal)));
    assert_eq!((seen.status, seen.panic.as_deref()), (None, Some("a secret of the handler")));
    assert_eq!(seen.request, "POST /test.v1.Echo/Say");
    client.say("hang", "50m").await.unwrap_err();
    let seen = observed.next().await;
    assert_eq!((seen.kind, seen.cause), ("rejected", Some("deadline_exceeded")));
    client.call("/test.v1.Echo/NoSuchMethod", "a", "").await.unwrap_err();
    let seen = observed.next().await;
    assert_eq!(
        (seen.kind, seen.code, seen.error_type.as_str()),
        ("declined", Some(Code::Unimplemented), "UNIMPLEMENTED")
    );
    observed.nothing_more().await;
}

/// Panics at everything it is told.
struct Clumsy(Mutex<()>);

impl FailureObserver for Clumsy {
    fn declined(&self, _: &FailedRequest<'_>) {
        let _guard = self.0.lock();
        panic!("the tracker of {} fell over", std::process::id());
    }
}

#[tokio::test]
async fn an_observer_that_panics_harms_neither_request_nor_the_other_observers() {
    let mut observed = Observed::start(|chassis| chassis.observer(Clumsy(Mutex::new(())))).await;
    let before = sum(&observed.service.metrics().await.unwrap(), "chassis_panics_total", &[]);
    let mut first = String::new();
    for _ in 0..3 {
        let answer = observed.service.get("/missing").await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.json()["code"].as_str()), (404, Some("unknown_thing")));
        let seen = observed.next().await;
        assert_eq!(seen.kind, "declined");
        first = if first.is_empty() { seen.trace_id } else { first };
    }
    // Other tests of the process panic too.
    assert!(sum(&observed.service.metrics().await.unwrap(), "chassis_panics_total", &[]) >= before + 3.0);
    let message = format!("the tracker of {} fell over", std::process::id());
    let lines: Vec<_> = log_lines().into_iter().filter(|line| line["panic.message"] == message.as_str()).collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert_eq!((&lines[0]["level"], &lines[0]["trace_id"]), (&"ERROR".into(), &first.as_str().into()));
    // Not a handler's panic: the check `panics` stays well.
    let health = observed.service.operator("/health").await.unwrap().json();
    assert_eq!(health["checks"]["panics"]["status"], "up", "{health}");
    observed.nothing_more().await;
}
