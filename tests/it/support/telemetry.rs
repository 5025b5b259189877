//! A service whose handlers make spans, write lines and tell what they know of their request; and looks at what it says.

use std::{
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use axum::{Json, Router, extract::Path, routing::get};
use chassis::{
    Chassis, RequestContext,
    service::{RouteInfo, RoutePolicy, Routes},
    settings::NoSettings,
    testing::{OtlpReceiver, ReceivedSpan, TestResponse, TestService, TestServiceBuilder, log_lines_of},
};
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

pub(crate) use super::pace::PATIENCE;

/// Logs, and makes a child of its own.
#[tracing::instrument(fields(password = "hunter2"))]
pub(crate) async fn outer(id: u32) -> u32 {
    tokio::task::yield_now().await;
    tracing::info!(at = "outer", "inside");
    inner(id).await + 1
}

#[tracing::instrument(skip_all)]
async fn inner(id: u32) -> u32 {
    tokio::task::yield_now().await;
    tracing::info!(at = "inner", "inside");
    id
}

/// Goes on on another worker thread, on a runtime with several; says whether it did.
#[tracing::instrument]
async fn moved() -> bool {
    let before = std::thread::current().id();
    // Gives the worker's work, this task's further polls included, to another thread, and waits until that has begun.
    let (begun, has_begun) = std::sync::mpsc::sync_channel(1);
    tokio::spawn(async move { begun.send(()) });
    tokio::task::block_in_place(|| has_begun.recv_timeout(PATIENCE).unwrap());
    tokio::task::yield_now().await;
    tracing::info!(at = "moved", "inside");
    inner(0).await;
    std::thread::current().id() != before
}

async fn order(Path(id): Path<u32>) -> String {
    tracing::info!(at = "handler", "inside");
    outer(id).await.to_string()
}

async fn move_over() -> String {
    moved().await.to_string()
}

async fn spawned() -> &'static str {
    let context = RequestContext::current().unwrap();
    tokio::spawn(context.scope(async { outer(1).await })).await.unwrap();
    "done"
}

async fn trace() -> Json<Value> {
    let context = RequestContext::current().unwrap();
    let trace = context.trace();
    let baggage = |key| context.baggage().and_then(|baggage| baggage.get(key).map(|value| value.into_owned()));
    Json(json!({
        "trace_id": trace.trace_id.to_string(),
        "span_id": trace.span_id.to_string(),
        "parent_id": trace.parent_id.map(|id| id.to_string()),
        "flags": trace.flags.to_u8(),
        "state": trace.state.as_ref().map(|state| state.as_str().to_owned()),
        "user": baggage("user"),
    }))
}

async fn fail(Path(status): Path<u16>) -> StatusCode {
    StatusCode::from_u16(status).unwrap()
}

async fn panics() -> &'static str {
    panic!("out of stock")
}

async fn hang() -> &'static str {
    std::future::pending().await
}

async fn short() -> &'static str {
    tokio::time::sleep(Duration::from_millis(3)).await;
    "short"
}

/// The routes over HTTP.
pub(crate) fn routes() -> Router {
    Router::new()
        .route("/orders/{id}", get(order))
        .route("/moved", get(move_over))
        .route("/spawned", get(spawned))
        .route("/trace", get(trace))
        .route("/fail/{status}", get(fail))
        .route("/panic", get(panics))
        .route("/hang", get(hang))
        .route("/short", get(short))
}

/// The service over HTTP and gRPC.
pub(crate) fn talkative(chassis: Chassis<NoSettings>) -> Chassis<NoSettings> {
    let described = RouteInfo::new(Method::GET, "/hang", "hang").policy(RoutePolicy::new().concurrency(100));
    let routes = Routes { router: routes(), infos: vec![described], grpc: None };
    chassis.mount(routes).grpc(super::telemetry_grpc::Talk)
}

/// The service with these values, sending to a receiver of its own at once.
pub(crate) async fn exporting(builder: TestServiceBuilder) -> (TestService, OtlpReceiver) {
    let receiver = OtlpReceiver::start().await.unwrap();
    let builder = builder.export_to(&receiver).env("OTEL_BSP_SCHEDULE_DELAY", "20");
    (builder.start(talkative).await.unwrap(), receiver)
}

/// A trace id that no other request of the process has.
pub(crate) fn fresh_trace_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{:016x}{:016x}", 0x0af7_6519_16cd_43dd_u64, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// GET with these headers.
pub(crate) async fn get_with(service: &TestService, path: &str, headers: &[(&str, &str)]) -> TestResponse {
    let request = Request::get(format!("http://{}{path}", service.http()));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    service.send(request.body(String::new()).unwrap()).await.unwrap()
}

/// Looks until there is something to see.
///
/// # Panics
/// When the time is up.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < until, "{what}: did not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The access line of the request with this trace id.
pub(crate) async fn access_line(trace_id: &str) -> Value {
    eventually("an access line", async || {
        log_lines_of(trace_id).into_iter().find(|line| line["target"] == "chassis::access")
    })
    .await
}

/// The spans of a trace, once there are as many.
pub(crate) async fn spans_of(receiver: &OtlpReceiver, trace_id: &str, count: usize) -> Vec<ReceivedSpan> {
    eventually("the spans of a trace", async || {
        let mut spans = receiver.spans();
        spans.retain(|span| span.trace_id.to_string() == trace_id);
        (spans.len() >= count).then_some(spans)
    })
    .await
}

/// The span with this name.
pub(crate) fn named<'a>(spans: &'a [ReceivedSpan], name: &str) -> &'a ReceivedSpan {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no span {name} in {spans:#?}"))
}

/// The value of a series in a scrape: the first sample whose line starts with `name` and contains all of `labels`.
pub(crate) fn sample(scrape: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let is_it = |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|l| line.contains(l))
    };
    let line = scrape.lines().find(is_it)?;
    let value = line.split(" # ").next()?.rsplit_once(' ')?.1;
    value.parse().ok()
}

/// Whether this test runs in a process of its own. If not, runs it so: for what a process has only once, such as the log
/// filter. `name` is the test's path.
pub(crate) fn alone(name: &str) -> bool {
    const VARIABLE: &str = "IT_ALONE";
    if std::env::var_os(VARIABLE).is_some() {
        return true;
    }
    let run =
        Command::new(std::env::current_exe().unwrap()).args(["--exact", name]).env(VARIABLE, "1").output().unwrap();
    let told = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{}: {told}\n{}", run.status, String::from_utf8_lossy(&run.stderr));
    assert!(told.contains("1 passed"), "no test is named {name}: {told}");
    false
}
