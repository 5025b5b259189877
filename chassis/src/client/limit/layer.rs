//! The layer: a call takes its place, waits for it, or is turned away; the place is kept until the answer's end.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tower_layer::Layer;
use tower_service::Service;

use super::state::{Entry, Limit, Place, Turn};
use crate::{
    cause::Cause,
    client::{
        body::{RequestBody, Watch, WatchedBody},
        error::NotSent,
        facts::Facts,
    },
    error::BoxError,
};

/// A bulkhead. See the [module](super).
#[derive(Debug, Clone)]
pub struct LimitLayer(Limit);

impl LimitLayer {
    /// With the places of this.
    #[must_use]
    pub fn new(limit: Limit) -> Self {
        Self(limit)
    }
}

impl<S> Layer<S> for LimitLayer {
    type Service = LimitService<S>;

    fn layer(&self, inner: S) -> LimitService<S> {
        LimitService { inner, limit: self.0.clone() }
    }
}

/// See [`LimitLayer`].
#[derive(Debug, Clone)]
pub struct LimitService<S> {
    inner: S,
    limit: Limit,
}

impl<S, B> Service<Request<RequestBody>> for LimitService<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = BoxError> + Clone,
    B: Body,
{
    type Response = Response<WatchedBody<B, Held>>;
    type Error = BoxError;
    type Future = LimitFuture<S, S::Future>;

    /// Always: who has no place waits in the call, where its own time limits it.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let state = match self.limit.enter() {
            Entry::Place(place) => State::Sent { inner: self.inner.call(request), place: Some(place) },
            Entry::Turn(turn) => {
                let deadline = Facts::of(&request).deadline;
                let waiting = Waiting { turn, deadline, sleep: None, request, service: self.inner.clone() };
                State::Waiting { waiting: Some(Box::new(waiting)) }
            }
            Entry::Full => State::Full,
        };
        LimitFuture { state, limit: self.limit.clone() }
    }
}

/// What is needed once there is a place. Boxed: few calls wait.
struct Waiting<S> {
    turn: Turn,
    deadline: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
    request: Request<RequestBody>,
    service: S,
}

pin_project! {
    /// The answer, with its place; or [`NotSent`].
    pub struct LimitFuture<S, F> {
        #[pin]
        state: State<S, F>,
        limit: Limit,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, F> {
        Sent { #[pin] inner: F, place: Option<Place> },
        Waiting { waiting: Option<Box<Waiting<S>>> },
        Full,
    }
}

impl<S, F, B> Future for LimitFuture<S, F>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = BoxError, Future = F>,
    F: Future<Output = Result<Response<B>, BoxError>>,
    B: Body,
{
    type Output = Result<Response<WatchedBody<B, Held>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.state.as_mut().project() {
                StateProjection::Sent { inner, place } => {
                    let response = ready!(inner.poll(cx))?;
                    let body = |body| match place.take() {
                        Some(place) => WatchedBody::new(body, Held { _place: place }),
                        None => WatchedBody::unwatched(body),
                    };
                    return Poll::Ready(Ok(response.map(body)));
                }
                StateProjection::Waiting { waiting } => {
                    let Some(mut held) = waiting.take() else { return Poll::Ready(Err(full(this.limit))) };
                    match held.poll(cx, this.limit) {
                        Poll::Pending => {
                            *waiting = Some(held);
                            return Poll::Pending;
                        }
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                        Poll::Ready(Ok(place)) => {
                            let Waiting { request, mut service, .. } = *held;
                            State::Sent { inner: service.call(request), place: Some(place) }
                        }
                    }
                }
                StateProjection::Full => return Poll::Ready(Err(full(this.limit))),
            };
            this.state.set(next);
        }
    }
}

impl<S> Waiting<S> {
    fn poll(&mut self, cx: &mut Context<'_>, limit: &Limit) -> Poll<Result<Place, BoxError>>
    where
        S: Service<Request<RequestBody>, Error = BoxError>,
    {
        // The time first, by the clock: who is called only when its time is up should not take a place.
        if let Some(deadline) = self.deadline {
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            if Instant::now() >= deadline || sleep.as_mut().poll(cx).is_ready() {
                self.turn.expire();
                return Poll::Ready(Err(too_late(limit)));
            }
        }
        // A stack's service is ready at once; one that is not is waited for before the place is taken.
        ready!(self.service.poll_ready(cx))?;
        match ready!(self.turn.poll(cx)) {
            Some(place) => Poll::Ready(Ok(place)),
            None => Poll::Ready(Err(full(limit))),
        }
    }
}

#[cold]
fn full(limit: &Limit) -> BoxError {
    let counts = limit.counts();
    let detail = format!("{} calls are under way and {} wait", counts.in_use, counts.queued);
    Box::new(NotSent::new(Cause::BulkheadFull).detail(detail))
}

#[cold]
fn too_late(limit: &Limit) -> BoxError {
    let detail = format!("the time was up while the call waited for one of {} places", limit.counts().limit);
    Box::new(NotSent::new(Cause::DeadlineExceeded).detail(detail))
}

impl<S, F> fmt::Debug for LimitFuture<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitFuture").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// The place of a call whose answer is being read.
#[derive(Debug)]
pub struct Held {
    _place: Place,
}

impl Watch for Held {
    fn complete(self) {}

    fn broke_off(self, _: Option<&(dyn std::error::Error + 'static)>) {}
}
