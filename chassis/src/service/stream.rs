//! Answers that are streams: server-sent events, and JSON values one a line.
//!
//! Nothing is gathered: an item is asked for when the transport has taken the one before, and goes out by itself. When the
//! caller goes away the stream is dropped.

use std::{
    borrow::Cow,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::Body,
    response::{IntoResponse, Response, sse},
};
use bytes::Bytes;
use futures_core::Stream;
use http::{HeaderName, HeaderValue, StatusCode, header};
use pin_project_lite::pin_project;
use serde::Serialize;

use super::{
    info::{AnswerKind, Content},
    reply::Reply,
};
use crate::{
    cause::Cause,
    problem::{IntoProblem, Problem},
};

/// How long an event stream is silent before a comment is sent, so that no proxy takes it for dead. The HTML standard
/// recommends every 15 seconds or so.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The name of the event that ends a stream which failed.
const PROBLEM: &str = "problem";

const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// nginx gathers answers unless it is told not to (ngx_http_proxy_module, `proxy_buffering`).
const NO_BUFFERING: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Problem>> + Send>>;

/// Server-sent events (`text/event-stream`), each with a JSON value; a browser reads them with `EventSource`.
///
/// - After 15 seconds of silence a comment is sent.
/// - An error in the middle is told as an event of the name `problem` with the problem as its data, and the stream ends; so
///   is a value that cannot be written as JSON, as an `internal` problem.
/// - When the instance stops accepting work the stream ends, so that a stop does not wait for it; `EventSource` connects
///   again by itself, elsewhere. An event's [`id`](Event::id) tells the next instance where to go on (`last-event-id`).
///
/// ```
/// use chassis::service::{Event, Events, service};
/// # use tonic::codegen::tokio_stream as tokio_stream;
///
/// #[derive(serde::Serialize)]
/// struct Shipped { order: u64 }
///
/// struct Orders;
///
/// #[service]
/// impl Orders {
///     /// What happens to orders.
///     #[get("/orders/events")]
///     async fn events(&self) -> Events<Shipped> {
///         let shipped = [7, 8].map(|order| Event::new(Shipped { order }).name("shipped").id(order));
///         Events::new(tokio_stream::iter(shipped))
///     }
/// }
/// ```
pub struct Events<T>(Items<Event<T>>);

impl<T: 'static> Events<T> {
    /// Events of a stream of values, or of [`Event`]s.
    pub fn new<S>(stream: S) -> Self
    where
        S: Stream<Item: Into<Event<T>>> + Send + 'static,
    {
        Self(Box::pin(Map { inner: stream, change: |item: S::Item| Ok(item.into()) }))
    }

    /// Events of a stream that may fail. It is not asked again after its first error.
    pub fn fallible<S, I, E>(stream: S) -> Self
    where
        S: Stream<Item = Result<I, E>> + Send + 'static,
        I: Into<Event<T>>,
        E: IntoProblem,
    {
        let change = |item: Result<I, E>| item.map(Into::into).map_err(IntoProblem::into_problem);
        Self(Box::pin(Map { inner: stream, change }))
    }
}

impl<T: Serialize + 'static> Reply for Events<T> {
    type Body = T;

    fn kind() -> AnswerKind {
        AnswerKind::new(StatusCode::OK, Content::Events)
    }

    fn reply(self) -> Response {
        let keep_alive = sse::KeepAlive::new().interval(KEEP_ALIVE);
        let events = sse::Sse::new(Written { items: Some(self.0), write: write_event }).keep_alive(keep_alive);
        ([NO_BUFFERING], events).into_response()
    }
}

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<T> {
    data: T,
    name: Option<Cow<'static, str>>,
    id: Option<String>,
}

impl<T> Event<T> {
    /// An event with this value, written as JSON.
    pub fn new(data: T) -> Self {
        Self { data, name: None, id: None }
    }

    /// The event's name, which callers listen for; one line. Default: none, which `EventSource` reports as `message`.
    #[must_use]
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The event's id, one line; a caller that connects again sends the last one it saw as `last-event-id`. Default: none.
    #[must_use]
    pub fn id(mut self, id: impl fmt::Display) -> Self {
        self.id = Some(id.to_string());
        self
    }
}

impl<T> From<T> for Event<T> {
    fn from(data: T) -> Self {
        Self::new(data)
    }
}

/// JSON values, one a line (`application/x-ndjson`).
///
/// An error in the middle, or a value that cannot be written as JSON, is logged, and the body breaks off: a caller sees an
/// answer that is not whole, and never takes a part for everything.
///
/// ```
/// use chassis::service::{JsonLines, service};
/// # use tonic::codegen::tokio_stream as tokio_stream;
///
/// #[derive(serde::Serialize)]
/// struct Order { id: u64 }
///
/// struct Orders;
///
/// #[service]
/// impl Orders {
///     /// All orders.
///     #[get("/orders/export")]
///     async fn export(&self) -> JsonLines<Order> {
///         JsonLines::new(tokio_stream::iter([7, 8].map(|id| Order { id })))
///     }
/// }
/// ```
pub struct JsonLines<T>(Items<T>);

impl<T: 'static> JsonLines<T> {
    /// Lines of a stream of values.
    pub fn new<S>(stream: S) -> Self
    where
        S: Stream<Item = T> + Send + 'static,
    {
        Self(Box::pin(Map { inner: stream, change: Ok }))
    }

    /// Lines of a stream that may fail. It is not asked again after its first error.
    pub fn fallible<S, E>(stream: S) -> Self
    where
        S: Stream<Item = Result<T, E>> + Send + 'static,
        E: IntoProblem,
    {
        Self(Box::pin(Map { inner: stream, change: |item: Result<T, E>| item.map_err(IntoProblem::into_problem) }))
    }
}

impl<T: Serialize + 'static> Reply for JsonLines<T> {
    type Body = T;

    fn kind() -> AnswerKind {
        AnswerKind::new(StatusCode::OK, Content::JsonLines)
    }

    fn reply(self) -> Response {
        let lines = Body::from_stream(Written { items: Some(self.0), write: write_line });
        ([(header::CONTENT_TYPE, NDJSON), NO_BUFFERING], lines).into_response()
    }
}

impl<T> fmt::Debug for Events<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for JsonLines<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonLines").finish_non_exhaustive()
    }
}

/// What goes out, and whether it is the last.
enum Out<W> {
    Item(W),
    Last(W),
    BreakOff(Problem),
}

/// A stream of values, written one by one, up to the first error.
struct Written<T, W> {
    /// None once the stream has failed.
    items: Option<Items<T>>,
    write: fn(Result<T, Problem>) -> Out<W>,
}

impl<T, W> Stream for Written<T, W> {
    type Item = Result<W, Problem>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(items) = &mut self.items else { return Poll::Ready(None) };
        let Some(item) = ready!(items.as_mut().poll_next(cx)) else {
            self.items = None;
            return Poll::Ready(None);
        };
        Poll::Ready(Some(match (self.write)(item) {
            Out::Item(written) => Ok(written),
            Out::Last(written) => {
                self.items = None;
                Ok(written)
            }
            Out::BreakOff(problem) => {
                self.items = None;
                Err(problem)
            }
        }))
    }
}

fn write_event<T: Serialize>(event: Result<Event<T>, Problem>) -> Out<sse::Event> {
    match event.and_then(|event| to_sse(&event)) {
        Ok(event) => Out::Item(event),
        Err(problem) => Out::Last(sse::Event::default().event(PROBLEM).data(problem.into_document())),
    }
}

fn to_sse<T: Serialize>(event: &Event<T>) -> Result<sse::Event, Problem> {
    let mut written = sse::Event::default();
    // axum panics on what would begin another field or event.
    if let Some(name) = &event.name {
        written = written.event(one_line("name", name)?);
    }
    if let Some(id) = &event.id {
        written = written.id(one_line("id", id)?);
    }
    written.json_data(&event.data).map_err(|error| Problem::from(Cause::Internal).explained_by(&error))
}

fn one_line<'a>(what: &'static str, text: &'a str) -> Result<&'a str, Problem> {
    match text.contains(['\r', '\n', '\0']) {
        false => Ok(text),
        true => Err(Problem::from(Cause::Internal).explained_by(&NotOneLine { what, text: text.to_owned() })),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("an event's {what} must be one line, found {text:?}")]
struct NotOneLine {
    what: &'static str,
    text: String,
}

fn write_line<T: Serialize>(item: Result<T, Problem>) -> Out<Bytes> {
    let written = item.and_then(|item| {
        let mut line =
            serde_json::to_vec(&item).map_err(|error| Problem::from(Cause::Internal).explained_by(&error))?;
        line.push(b'\n');
        Ok(line.into())
    });
    match written {
        Ok(line) => Out::Item(line),
        Err(problem) => {
            problem.interrupt();
            tracing::warn!(error.type = problem.code(), error = %problem, "a stream of JSON lines breaks off");
            Out::BreakOff(problem)
        }
    }
}

pin_project! {
    /// A stream, each item of which is changed.
    struct Map<S, C> {
        #[pin]
        inner: S,
        change: C,
    }
}

impl<S: Stream, C: FnMut(S::Item) -> O, O> Stream for Map<S, C> {
    type Item = O;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<O>> {
        let this = self.project();
        this.inner.poll_next(cx).map(|item| item.map(this.change))
    }
}

#[cfg(test)]
mod tests;
