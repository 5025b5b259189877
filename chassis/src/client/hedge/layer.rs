//! The layer: waits as long as most calls take, then sends a second one beside the first.

use std::{
    fmt,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::{config::HedgeConfig, digest::Digest};
use crate::{
    client::{
        Attempt,
        body::RequestBody,
        facts::{Facts, UpstreamAttempt},
        outcome::Outcome,
        replay::Replay,
        retry::{Budget, Made, mark},
    },
    context::Protocol,
    error::BoxError,
};

/// How many answers must have been timed before a call is hedged: a hundred, so that one of them lies beyond the default
/// percentile (Resilience4j's hedge keeps as many).
pub const HEDGE_MIN_SAMPLES: u64 = 100;
/// How long a computed delay is used: 1 s. Chosen: Finagle has 3 s; a slow start of a destination shows sooner.
const REFRESH: Duration = Duration::from_secs(1);

/// The hedges of one destination: its numbers, its latencies and its counts. A clone is the same.
#[derive(Debug, Clone)]
pub struct Hedge(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    budget: Budget,
    enabled: AtomicBool,
    /// Bits of an `f64`.
    percentile: AtomicU64,
    /// Nanoseconds.
    min_delay: AtomicU64,
    digest: Digest,
    origin: std::time::Instant,
    /// Nanoseconds; `UNKNOWN` with too few answers.
    delay: AtomicU64,
    /// Nanoseconds after the origin at which the delay is computed anew.
    refresh_at: AtomicU64,
    sent: AtomicU64,
    won: AtomicU64,
    lost: AtomicU64,
    held_back: AtomicU64,
    budget_exhausted: AtomicU64,
}

const UNKNOWN: u64 = u64::MAX;

/// How often what came of hedges, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct HedgeCounts {
    /// Hedges that were sent.
    pub sent: u64,
    /// Hedges that brought the answer.
    pub won: u64,
    /// Hedges whose race is over without it: the first attempt had the answer, or the call was given up.
    pub lost: u64,
    /// Hedges that were decided on and not sent: a breaker or a limit held them back. They are in none of the other counts.
    pub held_back: u64,
    /// Hedges that were not sent, since the budget was spent.
    pub budget_exhausted: u64,
    /// How long a call is waited for now, before it is hedged; `None` while too little is known, or when hedging is off.
    pub delay: Option<Duration>,
}

impl Hedge {
    /// With these settings, paid from this budget: the one of the destination's retries.
    #[must_use]
    pub fn new(config: &HedgeConfig, budget: Budget, now: std::time::Instant) -> Self {
        let hedge = Self(Arc::new(Shared {
            budget,
            enabled: AtomicBool::new(false),
            percentile: AtomicU64::new(0),
            min_delay: AtomicU64::new(0),
            digest: Digest::new(now),
            origin: now,
            delay: AtomicU64::new(UNKNOWN),
            refresh_at: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            won: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            held_back: AtomicU64::new(0),
            budget_exhausted: AtomicU64::new(0),
        }));
        hedge.configure(config);
        hedge
    }

    /// Other settings from the next call on. What was counted and timed stays.
    pub fn configure(&self, config: &HedgeConfig) {
        let shared = &self.0;
        shared.percentile.store(config.percentile.to_bits(), Relaxed);
        let min_delay = u64::try_from(config.min_delay.get().as_nanos()).unwrap_or(u64::MAX);
        shared.min_delay.store(min_delay, Relaxed);
        shared.refresh_at.store(0, Relaxed);
        shared.enabled.store(config.enabled, Relaxed);
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.0.enabled.load(Relaxed)
    }

    /// What was counted, for metrics.
    #[must_use]
    pub fn counts(&self, now: std::time::Instant) -> HedgeCounts {
        HedgeCounts {
            sent: self.0.sent.load(Relaxed),
            won: self.0.won.load(Relaxed),
            lost: self.0.lost.load(Relaxed),
            held_back: self.0.held_back.load(Relaxed),
            budget_exhausted: self.0.budget_exhausted.load(Relaxed),
            delay: self.delay(now),
        }
    }

    /// After how long a call is hedged; `None` when it is not.
    fn delay(&self, now: std::time::Instant) -> Option<Duration> {
        let shared = &self.0;
        if !shared.enabled.load(Relaxed) {
            return None;
        }
        let since = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let at = since(now.saturating_duration_since(shared.origin));
        let due = shared.refresh_at.load(Relaxed);
        // One call of those that find it due computes it, the others take the former.
        let next = at.saturating_add(since(REFRESH));
        if at >= due && shared.refresh_at.compare_exchange(due, next, Relaxed, Relaxed).is_ok() {
            let share = f64::from_bits(shared.percentile.load(Relaxed));
            let delay = shared.digest.percentile(now, share, enough(share));
            let floor = shared.min_delay.load(Relaxed);
            shared.delay.store(delay.map_or(UNKNOWN, |delay| since(delay).max(floor)), Relaxed);
        }
        let delay = shared.delay.load(Relaxed);
        (delay != UNKNOWN).then(|| Duration::from_nanos(delay))
    }

    /// The hedge, if the budget pays for it.
    fn pays(&self, now: Instant) -> Option<Sent> {
        let pays = self.0.budget.withdraw(now.into_std(), 1);
        let counter = if pays { &self.0.sent } else { &self.0.budget_exhausted };
        counter.fetch_add(1, Relaxed);
        pays.then(|| Sent { hedge: self.clone(), fate: Fate::Lost })
    }
}

/// A hedge under way. However its race ends, its fate is counted then, and once.
struct Sent {
    hedge: Hedge,
    fate: Fate,
}

/// What came of a hedge.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Won,
    Lost,
    HeldBack,
}

impl Drop for Sent {
    fn drop(&mut self) {
        let counter = match self.fate {
            Fate::Won => &self.hedge.0.won,
            Fate::Lost => &self.hedge.0.lost,
            Fate::HeldBack => {
                self.hedge.0.sent.fetch_sub(1, Relaxed);
                &self.hedge.0.held_back
            }
        };
        counter.fetch_add(1, Relaxed);
    }
}

/// So many that one of them lies beyond the percentile.
fn enough(share: f64) -> u64 {
    HEDGE_MIN_SAMPLES.max((1.0 / (1.0 - share).max(1e-6)).round() as u64)
}

/// Hedges. See the [module](super).
#[derive(Debug, Clone)]
pub struct HedgeLayer(Hedge);

impl HedgeLayer {
    /// With the numbers, latencies and counts of this.
    #[must_use]
    pub fn new(hedge: Hedge) -> Self {
        Self(hedge)
    }
}

impl<S> Layer<S> for HedgeLayer {
    type Service = HedgeService<S>;

    fn layer(&self, inner: S) -> HedgeService<S> {
        HedgeService { inner, hedge: self.0.clone() }
    }
}

/// See [`HedgeLayer`].
#[derive(Debug, Clone)]
pub struct HedgeService<S> {
    inner: S,
    hedge: Hedge,
}

impl<S, B> Service<Request<RequestBody>> for HedgeService<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = HedgeFuture<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<RequestBody>) -> Self::Future {
        if !self.hedge.is_enabled() {
            return HedgeFuture { state: State::Single { inner: self.inner.call(request), timed: None } };
        }
        let facts = Facts::of(&request);
        let started = Instant::now();
        let timed = Timed { hedge: self.hedge.clone(), started, protocol: facts.protocol };
        let delay = self.hedge.delay(started.into_std()).filter(|delay| {
            // A hedge that would be sent after the deadline is none.
            facts.deadline.is_none_or(|deadline| *delay < deadline.saturating_duration_since(started))
        });
        let hedged = delay.filter(|_| facts.idempotent && !UpstreamAttempt::is_retry(&request));
        let Some((delay, mut copy)) = hedged.and_then(|delay| Some((delay, Replay::of(&request)?.request()?))) else {
            return HedgeFuture { state: State::Single { inner: self.inner.call(request), timed: Some(timed) } };
        };
        // Both legs count their attempts together, and the retries inside take the call as paid in.
        let made = Made::default();
        self.hedge.0.budget.deposit(started.into_std());
        for request in [&mut request, &mut copy] {
            request.extensions_mut().insert(made.clone());
        }
        request.extensions_mut().insert(Attempt { previous: 0, hedge: false });
        let first = self.inner.call(request);
        let race = race(first, self.inner.clone(), copy, made, timed, delay);
        HedgeFuture { state: State::Race { future: Box::pin(race) } }
    }
}

/// Times a call, for the delay of those that follow.
struct Timed {
    hedge: Hedge,
    started: Instant,
    protocol: Protocol,
}

impl Timed {
    /// Whether an answer ends the race: the endpoint did its work, or its answer goes on.
    fn is_good<B>(&self, result: &Result<Response<B>, BoxError>) -> bool {
        result
            .as_ref()
            .is_ok_and(|response| matches!(Outcome::of_head(self.protocol, response), None | Some(Outcome::Success)))
    }

    /// Only good answers: failures are often faster, and would make calls that are well be hedged.
    fn record<B>(&self, result: &Result<Response<B>, BoxError>) {
        if self.is_good(result) {
            let now = Instant::now();
            self.hedge.0.digest.record(now.into_std(), now.saturating_duration_since(self.started));
        }
    }
}

async fn race<S, B>(
    first: S::Future,
    mut service: S,
    mut copy: Request<RequestBody>,
    made: Made,
    timed: Timed,
    delay: Duration,
) -> Result<Response<B>, BoxError>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = BoxError>,
{
    let mut first = pin!(first);
    if let Ok(result) = tokio::time::timeout_at(timed.started + delay, first.as_mut()).await {
        timed.record(&result);
        return result;
    }
    let Some(mut sent) = timed.hedge.pays(Instant::now()) else {
        let result = first.await;
        timed.record(&result);
        return result;
    };
    // Without retries inside nobody has counted the first.
    mark(&mut copy, made.get().max(1), true, timed.protocol);
    let mut second = pin!(async move {
        std::future::poll_fn(|cx| service.poll_ready(cx)).await?;
        service.call(copy).await
    });
    let (mut of_first, mut of_second) = (None, None);
    let (result, won) = std::future::poll_fn(|cx| {
        // Both are always asked, so that neither depends on whose timer woke the task.
        poll_into(&mut of_first, first.as_mut(), cx);
        poll_into(&mut of_second, second.as_mut(), cx);
        if of_second.as_ref().is_some_and(held_back) {
            sent.fate = Fate::HeldBack;
        }
        if let Some(good) = of_first.take_if(|result| timed.is_good(result)) {
            return Poll::Ready((good, false));
        }
        if let Some(good) = of_second.take_if(|result| timed.is_good(result)) {
            return Poll::Ready((good, true));
        }
        if of_first.is_none() || of_second.is_none() {
            return Poll::Pending;
        }
        // Neither is good. An answer says more than an error, the call itself more than its hedge.
        let of_hedge = of_second.take_if(|second| second.is_ok() && of_first.as_ref().is_some_and(Result::is_err));
        match of_hedge.or_else(|| of_first.take()) {
            Some(result) => Poll::Ready((result, false)),
            None => Poll::Pending,
        }
    })
    .await;
    if won {
        sent.fate = Fate::Won;
    }
    // From the start of the call, also when the hedge won: the first would have taken longer still, and a percentile of
    // what hedges make of it would sink with each of them.
    timed.record(&result);
    result
}

/// Returns whether an attempt was not sent, by this side's own doing.
fn held_back<B>(result: &Result<Response<B>, BoxError>) -> bool {
    result.as_ref().is_err_and(|error| matches!(Outcome::of_error(error), Outcome::Refused(_)))
}

fn poll_into<F: Future>(slot: &mut Option<F::Output>, future: Pin<&mut F>, cx: &mut Context<'_>) {
    if slot.is_none()
        && let Poll::Ready(output) = future.poll(cx)
    {
        *slot = Some(output);
    }
}

pin_project! {
    /// The first good answer. Dropped, all attempts under way end.
    pub struct HedgeFuture<F, B> {
        #[pin]
        state: State<F, B>,
    }
}

type Boxed<B> = Pin<Box<dyn Future<Output = Result<Response<B>, BoxError>> + Send>>;

pin_project! {
    #[project = StateProjection]
    enum State<F, B> {
        Single { #[pin] inner: F, timed: Option<Timed> },
        Race { future: Boxed<B> },
    }
}

impl<F, B> Future for HedgeFuture<F, B>
where
    F: Future<Output = Result<Response<B>, BoxError>>,
{
    type Output = Result<Response<B>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Single { inner, timed } => {
                let result = ready!(inner.poll(cx));
                if let Some(timed) = timed {
                    timed.record(&result);
                }
                Poll::Ready(result)
            }
            StateProjection::Race { future } => future.as_mut().poll(cx),
        }
    }
}

impl<F, B> fmt::Debug for HedgeFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgeFuture").finish_non_exhaustive()
    }
}
