//! Tells callers to move away while the instance drains: `connection: close` on HTTP/1.1 answers, and an end to event streams.
//!
//! Without it a kept-alive connection ends when the server closes it, and a request that is on its way just then is lost.
//! Closed behind an answer, at the caller's knowledge, nothing is. HTTP/2 needs no such thing: GOAWAY says which streams count.
//!
//! An event stream (`text/event-stream`) has no end of its own, and a stop would wait for it until the grace period is over.
//! So it ends when no new work is accepted any more; `EventSource` connects again by itself, and finds another instance.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{
    HeaderValue, Request, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_TYPE},
};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::shutdown::{Phase, Shutdown};

/// Marks answers given while draining. See the [module](self).
#[derive(Clone, Debug)]
pub struct DrainLayer {
    shutdown: Shutdown,
}

impl DrainLayer {
    /// Watches `shutdown` for the phase.
    #[must_use]
    pub fn new(shutdown: Shutdown) -> Self {
        Self { shutdown }
    }
}

impl<S> Layer<S> for DrainLayer {
    type Service = Drain<S>;

    fn layer(&self, inner: S) -> Drain<S> {
        Drain { inner, shutdown: self.shutdown.clone() }
    }
}

/// See [`DrainLayer`].
#[derive(Clone, Debug)]
pub struct Drain<S> {
    inner: S,
    shutdown: Shutdown,
}

impl<S, B, R> Service<Request<B>> for Drain<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible>,
    R: Body,
{
    type Response = Response<DrainBody<R>>;
    type Error = Infallible;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let http1 = request.version() <= Version::HTTP_11;
        ResponseFuture { inner: self.inner.call(request), shutdown: self.shutdown.clone(), http1 }
    }
}

pin_project! {
    /// The response, marked when the instance drains by the time it is ready.
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        shutdown: Shutdown,
        http1: bool,
    }
}

impl<F, R> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, Infallible>>,
    R: Body,
{
    type Output = Result<Response<DrainBody<R>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(mut response) = ready!(this.inner.poll(cx));
        let draining = *this.http1 && this.shutdown.phase() != Phase::Running;
        // An upgrade's own `connection` header has to stay.
        if draining && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let end = is_event_stream(&response).then(|| {
            let shutdown = this.shutdown.clone();
            Box::pin(async move { shutdown.reached(Phase::Stopping).await }) as End
        });
        Poll::Ready(Ok(response.map(|inner| DrainBody { inner: Some(inner), end })))
    }
}

/// What is known to be short, which most answers are, is not looked at further.
fn is_event_stream<R: Body>(response: &Response<R>) -> bool {
    let of_events = |kind: &HeaderValue| kind.as_bytes().starts_with(b"text/event-stream");
    response.body().size_hint().exact().is_none() && response.headers().get(CONTENT_TYPE).is_some_and(of_events)
}

type End = Pin<Box<dyn Future<Output = ()> + Send>>;

pin_project! {
    /// A body that ends with the instance when it is a stream of events, and by itself when it is anything else.
    pub struct DrainBody<B> {
        #[pin]
        inner: Option<B>,
        end: Option<End>,
    }
}

impl<B: Body> Body for DrainBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        // The end first: a stream that always has something to send would never meet it.
        if this.end.as_mut().is_some_and(|end| end.as_mut().poll(cx).is_ready()) {
            this.inner.set(None);
            *this.end = None;
        }
        match this.inner.as_pin_mut() {
            Some(inner) => inner.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<B> fmt::Debug for DrainBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrainBody").field("ends_with_the_instance", &self.end.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use axum::body;
    use bytes::Bytes;
    use tower_service::Service as _;

    use super::*;
    use crate::shutdown::PhaseOwner;

    /// An answer of this type, whose body has one byte to give whenever it is asked.
    async fn answer(shutdown: &Shutdown, kind: &'static str) -> DrainBody<body::Body> {
        let endless =
            tonic::codegen::tokio_stream::iter(std::iter::repeat(Ok::<_, Infallible>(Bytes::from_static(b"a"))));
        let mut body = Some(body::Body::from_stream(endless));
        let handler = tower::service_fn(move |_: Request<()>| {
            let response = Response::builder().header(CONTENT_TYPE, kind).body(body.take().expect("one request"));
            async { Ok::<_, Infallible>(response.expect("a response")) }
        });
        let response = DrainLayer::new(shutdown.clone()).layer(handler).call(Request::new(())).await;
        response.map_or_else(|never| match never {}, Response::into_body)
    }

    fn has_more(body: &mut DrainBody<body::Body>) -> bool {
        match Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(frame) => frame.is_some(),
            Poll::Pending => panic!("the body always has something"),
        }
    }

    #[tokio::test]
    async fn an_event_stream_ends_when_the_instance_stops_and_not_while_it_drains() {
        let (owner, shutdown) = PhaseOwner::new();
        let mut events = answer(&shutdown, "text/event-stream; charset=utf-8").await;
        let mut lines = answer(&shutdown, "application/x-ndjson").await;
        assert!(has_more(&mut events) && has_more(&mut lines));
        owner.advance(Phase::Draining);
        assert!(has_more(&mut events) && has_more(&mut lines));
        owner.advance(Phase::Stopping);
        assert!(!has_more(&mut events) && events.is_end_stream());
        assert!(has_more(&mut lines), "what is not a stream of events comes to its own end");
        assert!(!has_more(&mut answer(&shutdown, "text/event-stream").await), "nor does a late one begin");
    }
}
