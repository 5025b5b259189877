use std::{convert::Infallible, task::Waker};

use axum::BoxError;
use http_body_util::BodyExt;
use opentelemetry::trace::{SpanId, TraceFlags, TraceId};
use serde_json::Value;
use tonic::codegen::tokio_stream;

use super::*;
use crate::context::{Entered, RequestContext, TraceContext};

/// A value that cannot be written as JSON when it is negative.
#[derive(Clone, Copy)]
struct Number(i32);

impl Serialize for Number {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 < 0 { Err(serde::ser::Error::custom("a secret")) } else { serializer.serialize_i32(self.0) }
    }
}

#[derive(Debug)]
struct SoldOut;

impl IntoProblem for SoldOut {
    fn into_problem(self) -> Problem {
        Problem::conflict("sold_out")
    }
}

fn numbers<const N: usize>(numbers: [i32; N]) -> impl Stream<Item = Number> + Send + 'static {
    tokio_stream::iter(numbers.map(Number))
}

fn trace() -> TraceContext {
    let (trace_id, span_id) = (TraceId::from(1), SpanId::from(1));
    TraceContext { trace_id, span_id, parent_id: None, flags: TraceFlags::default(), state: None }
}

/// The frames of a body, and what it breaks off with.
async fn frames(response: Response) -> (Vec<String>, Option<BoxError>) {
    let (mut body, mut frames) = (response.into_body(), Vec::new());
    loop {
        match body.frame().await {
            Some(Ok(frame)) => {
                let data = frame.into_data().expect("no trailers");
                frames.push(String::from_utf8(data.to_vec()).expect("text"));
            }
            Some(Err(error)) => return (frames, Some(error.into())),
            None => return (frames, None),
        }
    }
}

fn header<'r>(response: &'r Response, name: &str) -> &'r str {
    response.headers().get(name).map_or("", |value| value.to_str().expect("text"))
}

#[tokio::test]
async fn events_are_json_with_a_name_and_an_id_where_they_have_one() {
    let named = [Event::new(Number(1)), Event::new(Number(2)).name("two").id(2)];
    let response = Events::<Number>::new(tokio_stream::iter(named)).reply();
    assert_eq!((response.status(), header(&response, "content-type")), (StatusCode::OK, "text/event-stream"));
    assert_eq!((header(&response, "cache-control"), header(&response, "x-accel-buffering")), ("no-cache", "no"));
    let (frames, error) = frames(response).await;
    assert_eq!(frames, ["data: 1\n\n", "event: two\nid: 2\ndata: 2\n\n"]);
    assert!(error.is_none());
    assert_eq!(Events::<Number>::kind(), AnswerKind::new(StatusCode::OK, Content::Events));
}

/// The one event that tells of a problem, and the word that the observer hears.
async fn problem_of(events: Events<Number>) -> (Vec<String>, Value, Option<&'static str>) {
    let context = RequestContext::of_trace(trace());
    let _entered = Entered::enter(context.clone());
    let (mut frames, error) = frames(events.reply()).await;
    assert!(error.is_none(), "{error:?}");
    let last = frames.pop().expect("an event");
    let data = last.strip_prefix("event: problem\ndata: ").and_then(|data| data.strip_suffix("\n\n"));
    let problem = serde_json::from_str(data.expect("a problem")).expect("JSON");
    (frames, problem, context.0.failure.get().copied())
}

#[tokio::test]
async fn an_error_ends_an_event_stream_with_an_event_that_tells_it() {
    let items = [Ok(Number(1)), Err(SoldOut), Ok(Number(2))];
    let (frames, problem, word) = problem_of(Events::fallible(tokio_stream::iter(items))).await;
    assert_eq!(frames, ["data: 1\n\n"]);
    assert_eq!((&problem["code"], &problem["status"]), (&"sold_out".into(), &409.into()));
    assert_eq!(word, Some("sold_out"));
}

#[tokio::test]
async fn an_event_that_cannot_be_written_is_an_internal_problem() {
    let (_, problem, word) = problem_of(Events::new(numbers([1, -1, 2]))).await;
    assert_eq!((&problem["code"], word), (&"internal".into(), Some("internal")));
    assert!(!problem.to_string().contains("secret"), "{problem}");
    for event in [Event::new(Number(1)).name("a\nb"), Event::new(Number(1)).id("a\rb"), Event::new(Number(1)).id('\0')]
    {
        let (frames, problem, _) = problem_of(Events::new(tokio_stream::iter([event]))).await;
        assert_eq!((frames.len(), &problem["code"]), (0, &"internal".into()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_event_stream_is_kept_alive_by_a_comment_every_15_seconds() {
    let started = tokio::time::Instant::now();
    let mut body = Events::<Number>::new(tokio_stream::pending::<Number>()).reply().into_body();
    for comments in 1..=2 {
        let frame = body.frame().await.expect("a frame").expect("a comment").into_data().expect("bytes");
        assert_eq!((&*frame, started.elapsed().as_secs()), (&b":\n\n"[..], comments * 15));
    }
}

#[tokio::test]
async fn json_values_are_one_a_line_and_a_frame_each() {
    let response = JsonLines::new(numbers([1, 2])).reply();
    assert_eq!((response.status(), header(&response, "content-type")), (StatusCode::OK, "application/x-ndjson"));
    let (frames, error) = frames(response).await;
    assert_eq!(frames, ["1\n", "2\n"]);
    assert!(error.is_none());
    assert_eq!(JsonLines::<Number>::kind(), AnswerKind::new(StatusCode::OK, Content::JsonLines));
}

#[tokio::test]
async fn json_lines_break_off_with_the_first_error() {
    let failing = JsonLines::fallible(tokio_stream::iter([Ok(Number(1)), Err(SoldOut), Ok(Number(2))]));
    for (lines, word) in [(failing, "sold_out"), (JsonLines::new(numbers([1, -1, 2])), "internal")] {
        let context = RequestContext::of_trace(trace());
        let _entered = Entered::enter(context.clone());
        let (frames, error) = frames(lines.reply()).await;
        assert_eq!(frames, ["1\n"]);
        assert!(error.is_some());
        assert_eq!(context.0.failure.get(), Some(&word));
    }
}

#[tokio::test]
async fn a_stream_that_cannot_fail_may_say_so() {
    let items = [Ok::<_, Infallible>(Number(1))];
    let (frames, error) = frames(JsonLines::fallible(tokio_stream::iter(items)).reply()).await;
    assert_eq!((frames.len(), error.is_some()), (1, false));
}

#[test]
fn nothing_is_asked_for_before_the_transport_asks() {
    use http_body::Body as _;
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    for events in [true, false] {
        let asked = Arc::new(AtomicU32::new(0));
        let counter = asked.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let _entered = runtime.enter();
        let endless = tokio_stream::StreamExt::map(tokio_stream::iter(0..), move |number| {
            counter.fetch_add(1, Ordering::Relaxed);
            Number(number)
        });
        let response = if events { Events::new(endless).reply() } else { JsonLines::new(endless).reply() };
        let mut body = response.into_body();
        let mut cx = Context::from_waker(Waker::noop());
        for asked_for in 1..=3 {
            assert!(Pin::new(&mut body).poll_frame(&mut cx).is_ready());
            assert_eq!(asked.load(Ordering::Relaxed), asked_for);
        }
    }
}
