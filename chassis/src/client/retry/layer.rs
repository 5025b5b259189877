//! The layer: keeps a copy of the request, looks at what came of an attempt, and makes the next.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use http::{HeaderValue, Request, Response, StatusCode, response};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    budget::Budget,
    config::RetryConfig,
    drain::{Kept, RetryBody, drop_or_keep},
    policy::{Asked, Reason, Rules, Standing, Verdict, decide},
};
use crate::{
    cause::Cause,
    client::{
        Attempt,
        balance::Tried,
        body::RequestBody,
        facts::{Facts, UpstreamAttempt},
        outcome::Outcome,
        replay::Replay,
    },
    clock::now,
    context::{Protocol, previous_attempts_header},
    error::BoxError,
};

/// The retries of one destination: its numbers and its counts. A clone is the same.
#[derive(Debug, Clone)]
pub struct Retry(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    budget: Budget,
    attempts: AtomicU32,
    /// Nanoseconds.
    backoff: AtomicU64,
    max_backoff: AtomicU64,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    failed: AtomicU64,
    timed_out: AtomicU64,
    throttled: AtomicU64,
    unreachable: AtomicU64,
    given_up: AtomicU64,
    too_late: AtomicU64,
    budget_exhausted: AtomicU64,
    /// By the place of the cause in its declaration.
    held_back: [AtomicU64; Cause::ALL.len()],
    given_up_waiting: AtomicU64,
}

impl Counters {
    fn sent(&self, reason: Reason) -> &AtomicU64 {
        match reason {
            Reason::Failed => &self.failed,
            Reason::TimedOut => &self.timed_out,
            Reason::Throttled => &self.throttled,
            Reason::Unreachable => &self.unreachable,
        }
    }
}

/// The word of a retry whose call was given up before it was sent.
const CANCELLED: &str = "cancelled";

/// How often what was done about failed attempts, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryCounts {
    /// Retries after a failure of the endpoint.
    pub failed: u64,
    /// Retries after an attempt that took too long.
    pub timed_out: u64,
    /// Retries after the wait that an endpoint with too much to do asked for.
    pub throttled: u64,
    /// Retries of what was never sent.
    pub unreachable: u64,
    /// Failures without a retry: all attempts made, or not idempotent, or the endpoint said no.
    pub given_up: u64,
    /// Failures without a retry, since it would have come after the deadline.
    pub too_late: u64,
    /// Failures without a retry, since the budget was spent.
    pub budget_exhausted: u64,
    /// Retries that were decided on and not sent: a breaker, a limit or the deadline held them back, or the call was given up
    /// during the wait. They are in none of the other counts.
    pub held_back: u64,
}

impl RetryCounts {
    /// All retries that were sent.
    #[must_use]
    pub const fn retries(&self) -> u64 {
        self.failed + self.timed_out + self.throttled + self.unreachable
    }
}

impl Retry {
    /// With these settings, from this budget; the budget takes its own numbers from the same settings.
    #[must_use]
    pub fn new(config: &RetryConfig, budget: Budget) -> Self {
        let retry = Self(Arc::new(Shared {
            budget,
            attempts: AtomicU32::new(1),
            backoff: AtomicU64::new(0),
            max_backoff: AtomicU64::new(0),
            counters: Counters::default(),
        }));
        retry.configure(config);
        retry
    }

    /// Other settings from now on, the budget's included. What was counted stays; a call under way goes on with the new.
    pub fn configure(&self, config: &RetryConfig) {
        self.0.budget.configure(config);
        self.0.attempts.store(config.attempts.max(1), Relaxed);
        self.0.backoff.store(nanos(config.backoff.get()), Relaxed);
        self.0.max_backoff.store(nanos(config.max_backoff.get()), Relaxed);
    }

    /// How often a call is tried in all.
    pub(crate) fn attempts(&self) -> u32 {
        self.0.attempts.load(Relaxed)
    }

    /// What pays for retries.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.0.budget
    }

    /// What was counted, for metrics.
    #[must_use]
    pub fn counts(&self) -> RetryCounts {
        let counters = &self.0.counters;
        RetryCounts {
            failed: counters.failed.load(Relaxed),
            timed_out: counters.timed_out.load(Relaxed),
            throttled: counters.throttled.load(Relaxed),
            unreachable: counters.unreachable.load(Relaxed),
            given_up: counters.given_up.load(Relaxed),
            too_late: counters.too_late.load(Relaxed),
            budget_exhausted: counters.budget_exhausted.load(Relaxed),
            held_back: self.held_back().iter().map(|(_, count)| count).sum(),
        }
    }

    /// Retries that were not sent, by what held them back.
    pub(crate) fn held_back(&self) -> Vec<(&'static str, u64)> {
        let counters = &self.0.counters;
        let causes = Cause::ALL.into_iter().map(|cause| (cause.as_str(), &counters.held_back[cause as usize]));
        let all = causes.chain([(CANCELLED, &counters.given_up_waiting)]);
        let counts = all.map(|(word, count)| (word, count.load(Relaxed)));
        // The usual ones are there from the start, so that the first is an increase for the reader.
        let usual = [Cause::CircuitOpen, Cause::BulkheadFull].map(Cause::as_str);
        counts.filter(|(word, count)| *count > 0 || usual.contains(word)).collect()
    }

    fn rules(&self) -> Rules {
        Rules {
            attempts: self.0.attempts.load(Relaxed),
            backoff: Duration::from_nanos(self.0.backoff.load(Relaxed)),
            max_backoff: Duration::from_nanos(self.0.max_backoff.load(Relaxed)),
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// How many attempts of one call were made, by all of its legs; in the extensions when the call may be hedged.
#[derive(Debug, Clone, Default)]
pub(crate) struct Made(Arc<AtomicU32>);

impl Made {
    /// Counts one more, and gives how many there were before.
    pub(crate) fn add(&self) -> u32 {
        self.0.fetch_add(1, Relaxed)
    }

    pub(crate) fn get(&self) -> u32 {
        self.0.load(Relaxed)
    }
}

/// Says, to the layers inside and to the endpoint, which attempt this is.
pub(crate) fn mark(request: &mut Request<RequestBody>, previous: u32, hedge: bool, protocol: Protocol) {
    request.extensions_mut().insert(Attempt { previous, hedge });
    if previous > 0 {
        request.headers_mut().insert(previous_attempts_header(protocol), HeaderValue::from(previous));
    }
}

/// Retries. See the [module](super).
#[derive(Debug, Clone)]
pub struct RetryLayer(Retry);

impl RetryLayer {
    /// With the numbers and the counts of this.
    #[must_use]
    pub fn new(retry: Retry) -> Self {
        Self(retry)
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = RetryService<S>;

    fn layer(&self, inner: S) -> RetryService<S> {
        RetryService { inner, retry: self.0.clone() }
    }
}

/// See [`RetryLayer`].
#[derive(Debug, Clone)]
pub struct RetryService<S> {
    inner: S,
    retry: Retry,
}

impl<S, B> Service<Request<RequestBody>> for RetryService<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
{
    type Response = Response<RetryBody<B>>;
    type Error = BoxError;
    type Future = RetryFuture<S, S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let mut facts = Facts::of(&request);
        let leg = request.extensions().get::<Attempt>().copied();
        if leg.is_none() {
            // The hedge has paid in for its legs.
            self.retry.0.budget.deposit(now());
        }
        let shared = leg.and_then(|_| request.extensions().get::<Made>().cloned());
        let made = shared.as_ref().map_or(1, |made| made.add() + 1);
        // For a request that is a retry itself nothing is sent twice; what was never sent is another matter.
        facts.idempotent &= !UpstreamAttempt::is_retry(&request);
        // Without another attempt in sight nothing is copied.
        let replay = if self.retry.attempts() > 1 { Replay::of(&request) } else { None };
        // The service that was waited for makes the first attempt, its clones the others.
        let inner = self.inner.call(request);
        let plan = replay.map(|replay| {
            let (service, retry) = (self.inner.clone(), self.retry.clone());
            let hedge = leg.is_some_and(|leg| leg.hedge);
            Box::new(Plan { service, retry, replay, facts, hedge, shared, made, step: 0, decided: None })
        });
        RetryFuture { state: State::First { inner, plan } }
    }
}

type Boxed<B> = Pin<Box<dyn Future<Output = Result<Response<RetryBody<B>>, BoxError>> + Send>>;

pin_project! {
    /// The answer of the last attempt. Dropped, the attempt under way ends.
    pub struct RetryFuture<S, F, B: Body> {
        #[pin]
        state: State<S, F, B>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, F, B: Body> {
        First { #[pin] inner: F, plan: Option<Box<Plan<S>>> },
        // Boxed, because most calls never get here.
        Later { future: Boxed<B> },
    }
}

impl<S, F, B> Future for RetryFuture<S, F, B>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = BoxError> + Send + 'static,
    S::Future: Send,
    F: Future<Output = Result<Response<B>, BoxError>>,
    B: Body + Send + 'static,
    B::Data: Send,
{
    type Output = Result<Response<RetryBody<B>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let (inner, plan) = match state.as_mut().project() {
                StateProjection::First { inner, plan } => (inner, plan),
                StateProjection::Later { future } => return future.as_mut().poll(cx),
            };
            let result = ready!(inner.poll(cx));
            let Some(mut plan) = plan.take() else { return Poll::Ready(result.map(live)) };
            let Some(wait) = plan.weigh(&result) else { return Poll::Ready(result.map(live)) };
            state.set(State::Later { future: Box::pin(plan.carry_on(result, wait)) });
        }
    }
}

fn live<B: Body>(response: Response<B>) -> Response<RetryBody<B>> {
    response.map(RetryBody::live)
}

impl<S, F, B: Body> fmt::Debug for RetryFuture<S, F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryFuture").finish_non_exhaustive()
    }
}

/// What is kept for further attempts.
struct Plan<S> {
    service: S,
    retry: Retry,
    replay: Replay,
    facts: Facts,
    hedge: bool,
    shared: Option<Made>,
    made: u32,
    step: u32,
    /// The retry that is waited for or under way.
    decided: Option<Decided>,
}

/// A retry that is paid for. It is counted when it is known whether it was sent, and once.
struct Decided {
    retry: Retry,
    reason: Reason,
    fate: Fate,
}

/// Whether a retry was sent.
enum Fate {
    /// Its call was given up before.
    GivenUp,
    Sent,
    HeldBack(Cause),
}

impl Drop for Decided {
    fn drop(&mut self) {
        let counters = &self.retry.0.counters;
        let counter = match self.fate {
            Fate::GivenUp => &counters.given_up_waiting,
            Fate::Sent => counters.sent(self.reason),
            Fate::HeldBack(cause) => &counters.held_back[cause as usize],
        };
        counter.fetch_add(1, Relaxed);
    }
}

impl<S> Plan<S> {
    /// How long to wait for another attempt, which is paid for; `None` when there is none.
    fn weigh<B>(&mut self, result: &Result<Response<B>, BoxError>) -> Option<Duration> {
        let protocol = self.facts.protocol;
        let outcome = match result {
            // A gRPC answer without a status in its head goes on: the caller has it from here.
            Ok(response) => Outcome::of_head(protocol, response)?,
            Err(error) => Outcome::of_error(error),
        };
        if outcome == Outcome::Success {
            return None;
        }
        let asked = match result {
            Ok(response) => Asked::of_head(protocol, response.headers(), SystemTime::now),
            Err(_) => Asked::Nothing,
        };
        let now = Instant::now();
        // Asked only when it matters, for it looks at the endpoints.
        let matters =
            matches!(asked, Asked::NotBefore(_)) || matches!(outcome, Outcome::Unreachable | Outcome::Untouched);
        let elsewhere = matters && self.replay.tried().is_some_and(Tried::has_untried);
        let standing = Standing {
            elsewhere,
            idempotent: self.facts.idempotent,
            made: self.shared.as_ref().map_or(self.made, Made::get),
            step: self.step,
            left: self.facts.deadline.map(|deadline| deadline.saturating_duration_since(now)),
        };
        let counters = &self.retry.0.counters;
        match decide(self.retry.rules(), standing, outcome, asked, fastrand::f64()) {
            Verdict::HandOn => None,
            Verdict::GiveUp => {
                counters.given_up.fetch_add(1, Relaxed);
                None
            }
            Verdict::TooLate => {
                counters.too_late.fetch_add(1, Relaxed);
                None
            }
            Verdict::Again { wait, cost, step, reason } => {
                if !self.retry.0.budget.withdraw(now.into_std(), cost) {
                    counters.budget_exhausted.fetch_add(1, Relaxed);
                    return None;
                }
                self.decided = Some(Decided { retry: self.retry.clone(), reason, fate: Fate::GivenUp });
                // Counted before the wait, so that two legs that wait do not both take the last attempt.
                self.made = self.shared.as_ref().map_or(self.made, Made::add) + 1;
                self.step = step;
                Some(wait)
            }
        }
    }

    async fn carry_on<B>(
        mut self,
        mut last: Result<Response<B>, BoxError>,
        mut wait: Duration,
    ) -> Result<Response<RetryBody<B>>, BoxError>
    where
        S: Service<Request<RequestBody>, Response = Response<B>, Error = BoxError>,
        B: Body,
    {
        let mut before = Before::NotSent;
        loop {
            before = before.and(last, Instant::now() + wait).await;
            let Some(mut request) = self.replay.request() else {
                // What was copied once can be copied again; still an error and not a panic.
                return Err("the request cannot be sent again".into());
            };
            mark(&mut request, self.made - 1, self.hedge, self.facts.protocol);
            let mut decided = self.decided.take();
            let mut fate = |fate| decided.as_mut().map(|decided| decided.fate = fate);
            last = match std::future::poll_fn(|cx| self.service.poll_ready(cx)).await {
                Ok(()) => {
                    // Given up from here on, it was sent as far as anybody knows.
                    fate(Fate::Sent);
                    self.service.call(request).await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = &last {
                fate(match Outcome::of_error(error) {
                    Outcome::Refused(cause) => Fate::HeldBack(cause),
                    _ => Fate::Sent,
                });
            }
            drop(decided);
            match self.weigh(&last) {
                Some(next) => wait = next,
                None => return last.map(live).or_else(|error| before.told_with(error, self.facts.protocol)),
            }
        }
    }
}

/// What the attempts before came to.
enum Before<B: Body> {
    NotSent,
    Failed(BoxError),
    /// The head of the last answer, and its body when all of it was read.
    Answered(response::Parts, Option<Kept<B::Data>>),
}

impl<B: Body> Before<B> {
    /// With one more attempt, once its wait is over; what is left of its answer is read meanwhile.
    async fn and(self, last: Result<Response<B>, BoxError>, until: Instant) -> Self {
        let next = match last {
            Ok(response) => {
                let (head, body) = response.into_parts();
                Self::Answered(head, drop_or_keep(body, until).await)
            }
            Err(error) if Outcome::of_error(&error).never_sent() => self,
            Err(error) => Self::Failed(error),
        };
        tokio::time::sleep_until(until).await;
        next
    }

    /// What the call comes to after an error. A last attempt that was not sent does not make the others unsent: what the
    /// endpoint said to the one before is then the answer, as it would have been without the retry.
    fn told_with(self, error: BoxError, protocol: Protocol) -> Result<Response<RetryBody<B>>, BoxError> {
        if !Outcome::of_error(&error).never_sent() {
            return Err(error);
        }
        match self {
            Self::NotSent => Err(error),
            Self::Failed(before) => Err(before),
            Self::Answered(head, Some(kept)) => Ok(Response::from_parts(head, RetryBody::kept(kept))),
            // All that counts of a failed gRPC call is in its head.
            Self::Answered(head, None) if protocol != Protocol::Http => {
                Ok(Response::from_parts(head, RetryBody::kept(Kept::default())))
            }
            Self::Answered(head, None) => Err(Box::new(RetryNotSent { status: head.status, why: error })),
        }
    }
}

/// An endpoint answered with a failure that was too long to be kept, and the retry was not sent.
///
/// Why is told in the text and is not its source: who looks there for [`NotSent`](crate::client::NotSent) would take the
/// whole call for one that was never sent.
#[derive(Debug)]
struct RetryNotSent {
    status: StatusCode,
    why: BoxError,
}

impl fmt::Display for RetryNotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the endpoint answered {}, and the retry was not sent: {}", self.status.as_u16(), self.why)
    }
}

impl std::error::Error for RetryNotSent {}
