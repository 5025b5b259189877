//! Answers that are streams: items come one by one, a stop ends event streams, a caller that goes away ends the stream.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use chassis::{
    Chassis, Problem,
    service::{Event, Events, JsonLines},
    testing::{TestService, log_lines},
};
use tokio::{sync::mpsc, time::timeout};
use tonic::codegen::tokio_stream::{self, Stream};

use crate::support::{
    http2::Connection,
    process::PATIENCE,
    raw::Raw,
    scrape::{until, until_nothing_is_in_flight},
    witness::{AtWork, Witness},
};

const COUNT: &str = "http_server_request_duration_seconds_count";

/// What the test lets a stream say.
type Item = Result<u32, StreamError>;

#[derive(Debug, thiserror::Error, Problem)]
#[error("the tap is closed")]
#[problem(unavailable, code = "tap")]
struct StreamError;

/// Streams what the test sends, with a witness of its end.
struct Tap {
    items: mpsc::Receiver<Item>,
    _at_work: AtWork,
}

impl Stream for Tap {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        self.items.poll_recv(cx)
    }
}

struct Taps {
    next: Mutex<Option<Tap>>,
}

#[chassis::service]
impl Taps {
    #[get("/events")]
    async fn events(&self) -> Events<u32> {
        Events::fallible(self.take())
    }

    #[get("/lines")]
    async fn lines(&self) -> JsonLines<u32> {
        JsonLines::fallible(self.take())
    }

    /// Never silent, never at its end.
    #[get("/flood")]
    async fn flood(&self) -> Events<u64> {
        Events::new(tokio_stream::iter((0..).map(|number| Event::new(number).name("drop"))))
    }

    fn take(&self) -> Tap {
        self.next.lock().unwrap().take().expect("one stream for each test")
    }
}

/// A service, and what its one stream says.
async fn start(witness: &Witness) -> (TestService, mpsc::Sender<Item>) {
    let (sender, items) = mpsc::channel(1);
    let next = Mutex::new(Some(Tap { items, _at_work: witness.begin() }));
    // A grace period that is longer than any test waits: no stop ends by it.
    let service = TestService::builder().set("shutdown.grace", "10m");
    let service = service.start(|chassis: Chassis| chassis.mount(Arc::new(Taps { next }))).await.unwrap();
    (service, sender)
}

/// Asks for a stream; gives the head.
async fn open(raw: &mut Raw, path: &str) -> String {
    raw.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
    raw.head().await.expect("a head")
}

#[tokio::test]
async fn items_arrive_one_by_one_as_they_are_made() {
    for (path, kind, item) in
        [("/events", "text/event-stream", "data: 1\n\n"), ("/lines", "application/x-ndjson", "1\n")]
    {
        let (service, items) = start(&Witness::new()).await;
        let mut raw = Raw::connect(service.http()).await;
        // The head is there before any item.
        let head = open(&mut raw, path).await;
        assert!(head.starts_with("HTTP/1.1 200") && head.contains(kind), "{head}");
        for _ in 0..3 {
            items.send(Ok(1)).await.unwrap();
            assert_eq!(raw.chunk().await.unwrap(), item.as_bytes(), "{path}");
        }
        drop(items);
        assert_eq!(raw.chunk().await.unwrap(), b"", "the end is said");
        until(&service, COUNT, &[path, "http_response_status_code=\"200\""], 1.0).await;
    }
}

#[tokio::test]
async fn an_error_in_the_middle_is_an_event_of_its_own_and_the_end() {
    let (service, items) = start(&Witness::new()).await;
    let mut raw = Raw::connect(service.http()).await;
    let head = open(&mut raw, "/events").await.to_lowercase();
    items.send(Ok(1)).await.unwrap();
    items.send(Err(StreamError)).await.unwrap();
    let body = String::from_utf8(raw.chunked().await.expect("a whole answer")).unwrap();
    let problem = body.strip_prefix("data: 1\n\nevent: problem\ndata: ").expect(&body);
    let problem: serde_json::Value = serde_json::from_str(problem).unwrap();
    assert_eq!((&problem["code"], &problem["status"]), (&"tap".into(), &503.into()));
    assert!(head.contains(&format!("x-trace-id: {}", problem["trace_id"].as_str().unwrap())), "{head}");
    until(&service, COUNT, &["/events", "error_type=\"tap\"", "http_response_status_code=\"200\""], 1.0).await;
}

#[tokio::test]
async fn an_error_in_the_middle_breaks_json_lines_off_so_that_nobody_takes_a_part_for_the_whole() {
    let (service, items) = start(&Witness::new()).await;
    let mut raw = Raw::connect(service.http()).await;
    open(&mut raw, "/lines").await;
    items.send(Ok(1)).await.unwrap();
    assert_eq!(raw.chunk().await.unwrap(), b"1\n");
    items.send(Err(StreamError)).await.unwrap();
    assert_eq!(raw.chunked().await, None, "the connection ends without the last chunk");
    until(&service, COUNT, &["/lines", "error_type=\"tap\""], 1.0).await;
    let broke_off = |line: &serde_json::Value| line.to_string().contains("a stream of JSON lines breaks off");
    assert!(log_lines().iter().any(broke_off));

    let (service, items) = start(&Witness::new()).await;
    let mut connection = Connection::open(service.http()).await.unwrap();
    items.send(Err(StreamError)).await.unwrap();
    assert!(connection.get("/lines").await.is_err(), "HTTP/2 resets the stream");
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_the_stream() {
    for path in ["/events", "/lines"] {
        let witness = Witness::new();
        let (service, items) = start(&witness).await;
        let mut raw = Raw::connect(service.http()).await;
        open(&mut raw, path).await;
        items.send(Ok(1)).await.unwrap();
        raw.chunk().await.unwrap();
        assert_eq!(witness.seen(), (1, 0));
        drop(raw);
        witness.ended(1).await;
        until_nothing_is_in_flight(&service).await;
        until(&service, COUNT, &[path, "error_type=\"aborted\""], 1.0).await;
    }
}

#[tokio::test]
async fn a_stop_ends_event_streams_at_once_and_lets_json_lines_come_to_their_end() {
    let witness = Witness::new();
    let (service, items) = start(&witness).await;
    let mut raw = Raw::connect(service.http()).await;
    open(&mut raw, "/events").await;
    items.send(Ok(1)).await.unwrap();
    raw.chunk().await.unwrap();
    let mut flood = Raw::connect(service.http()).await;
    open(&mut flood, "/flood").await;
    let mut http2 = Connection::open(service.http()).await.unwrap();
    let flooded = tokio::spawn(async move { http2.get("/flood").await });

    until(&service, "http_server_active_requests", &[], 3.0).await;

    let stopped = tokio::spawn(service.stop());
    assert_eq!(raw.chunk().await.unwrap(), b"", "the end is said: the connection does not break");
    witness.ended(1).await;
    assert!(flood.chunked().await.is_some(), "a stream that is never silent ends too");
    assert!(flooded.await.unwrap().is_ok(), "over HTTP/2 as well");
    timeout(PATIENCE, stopped).await.expect("a stop without the grace period").unwrap().unwrap();

    let (service, items) = start(&Witness::new()).await;
    let mut raw = Raw::connect(service.http()).await;
    open(&mut raw, "/lines").await;
    let mut phase = Box::pin({
        let shutdown = service.handle().shutdown();
        async move { shutdown.reached(chassis::shutdown::Phase::Stopping).await }
    });
    let stopped = tokio::spawn(service.stop());
    phase.as_mut().await;
    items.send(Ok(1)).await.unwrap();
    drop(items);
    assert_eq!(raw.chunked().await.as_deref(), Some(&b"1\n"[..]), "an export is not cut short");
    timeout(PATIENCE, stopped).await.expect("a stop").unwrap().unwrap();
}
