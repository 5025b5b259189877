//! When an attempt's connection was looked up, connected and secured.
//!
//! The pool asks its connector for a connection while the attempt that needs one is polled, and may finish it elsewhere.
//! So the attempt lies in a thread-local while it is polled, a connector takes it from there when it is asked, and keeps it
//! for as long as it connects. The times are those of the connection that the attempt asked for, whether it came to
//! anything or not; an attempt that found a connection has none.

use std::{
    cell::Cell,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use opentelemetry::trace::Event;
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_service::Service;

/// What a [`Timed`] service does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Finds the addresses of a name.
    Dns,
    /// Connects, the look-up included.
    Connect,
    /// Connects and agrees on TLS; only for a connector that always does.
    Tls,
}

/// The names of the moments, as OpenTelemetry's instrumentation of Go's `net/http` has them.
const MOMENTS: [&str; 6] = [
    "http.dns.start",
    "http.dns.done",
    "http.connect.start",
    "http.connect.done",
    "http.tls.done",
    "http.receive.start",
];
const RECEIVE_START: usize = 5;

impl Phase {
    const fn start(self) -> Option<usize> {
        match self {
            Self::Dns => Some(0),
            Self::Connect => Some(2),
            // It begins when the connection is there: at `http.connect.done`.
            Self::Tls => None,
        }
    }

    const fn done(self) -> usize {
        match self {
            Self::Dns => 1,
            Self::Connect => 3,
            Self::Tls => 4,
        }
    }
}

/// The moments of one attempt.
#[derive(Debug)]
pub(super) struct Times {
    started: Instant,
    /// Nanoseconds after `started`, plus one; 0 while it has not come.
    moments: [AtomicU64; MOMENTS.len()],
}

impl Times {
    pub(super) fn new(started: Instant) -> Self {
        Self { started, moments: Default::default() }
    }

    /// Notes a moment, the first time it comes.
    fn note(&self, moment: usize) {
        let nanos = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX - 1);
        let _ = self.moments[moment].compare_exchange(0, nanos + 1, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The head of the answer is there.
    pub(super) fn received(&self) {
        self.note(RECEIVE_START);
    }

    /// The moments that came, as events of a span that began then.
    pub(super) fn events(&self, began: SystemTime) -> Vec<Event> {
        let moments = MOMENTS.iter().zip(&self.moments);
        let came = moments.filter_map(|(name, nanos)| Some((*name, nanos.load(Ordering::Relaxed).checked_sub(1)?)));
        let mut events: Vec<Event> =
            came.map(|(name, nanos)| Event::new(name, began + Duration::from_nanos(nanos), Vec::new(), 0)).collect();
        events.sort_by_key(|event| event.timestamp);
        events
    }
}

thread_local! {
    static CURRENT: Cell<Option<Arc<Times>>> = const { Cell::new(None) };
}

/// Puts the times of an attempt in reach of connectors, until dropped.
pub(super) struct Entered(Option<Arc<Times>>);

impl Entered {
    pub(super) fn enter(times: &Arc<Times>) -> Self {
        Self(CURRENT.replace(Some(Arc::clone(times))))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

fn current() -> Option<Arc<Times>> {
    let current = CURRENT.take();
    CURRENT.set(current.clone());
    current
}

/// A connector, or a resolver, whose times become events of the attempt that asked for it.
///
/// `Timed::new(Phase::Connect, connector)`, the resolver inside it wrapped with [`Phase::Dns`], and one that adds TLS
/// around it with [`Phase::Tls`]. Of an attempt that is not sampled nothing is noted.
#[derive(Debug, Clone)]
pub struct Timed<S> {
    inner: S,
    phase: Phase,
}

impl<S> Timed<S> {
    /// The service, timed.
    #[must_use]
    pub fn new(phase: Phase, inner: S) -> Self {
        Self { inner, phase }
    }
}

impl<S: Service<T>, T> Service<T> for Timed<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = TimedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, target: T) -> Self::Future {
        let times = current();
        if let (Some(times), Some(start)) = (&times, self.phase.start()) {
            times.note(start);
        }
        TimedFuture { inner: self.inner.call(target), times, phase: self.phase }
    }
}

pin_project! {
    /// See [`Timed`].
    #[derive(Debug)]
    pub struct TimedFuture<F> {
        #[pin]
        inner: F,
        times: Option<Arc<Times>>,
        phase: Phase,
    }
}

impl<F, R, E> Future for TimedFuture<F>
where
    F: Future<Output = Result<R, E>>,
{
    type Output = Result<R, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<R, E>> {
        let this = self.project();
        // What is asked inside, the resolver for one, belongs to the same attempt, wherever this is polled.
        let entered = this.times.as_ref().map(Entered::enter);
        let polled = this.inner.poll(cx);
        drop(entered);
        let result = ready!(polled);
        if let (Some(times), true) = (&this.times, result.is_ok()) {
            times.note(this.phase.done());
        }
        Poll::Ready(result)
    }
}

pin_project! {
    /// A future that is polled elsewhere, and whose [`Timed`] services note the times of the attempt that made it.
    pub(crate) struct Carried<F> {
        #[pin]
        inner: F,
        times: Option<Arc<Times>>,
    }
}

impl<F> Carried<F> {
    pub(crate) fn new(inner: F) -> Self {
        Self { inner, times: current() }
    }
}

impl<F: Future> Future for Carried<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = this.times.as_ref().map(Entered::enter);
        this.inner.poll(cx)
    }
}
