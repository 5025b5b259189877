//! The balancer as a tower service.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, TryLockError},
    task::{Context, Poll, Waker, ready},
    time::Instant,
};

use arc_swap::{ArcSwap, Guard};
use fastrand::Rng;
use http::{
    Request, Response,
    uri::{Authority, PathAndQuery, Scheme},
};
use pin_project_lite::pin_project;
use tokio::sync::watch;
use tower_service::Service;

use super::{
    super::{CallInfo, DEFAULT_TIMEOUT, NotSent, RequestBody, body::WatchedBody},
    Available, Bypass, MakeEndpoint, Tried,
    config::BalanceConfig,
    flight::Flight,
    load::Load,
    pick::Nobody,
    set::{Set, Workshop},
    tried::Others,
};
use crate::{
    cause::Cause,
    clock::now,
    discovery::{Endpoint, Freshness, Refresh, Resolution},
    error::BoxError,
};

/// How often a call picks when the endpoint that it picked lets it not through after all. Chosen: that takes others that were
/// faster within microseconds, so that a second time is rare and a fourth is overload.
const PICKS: u32 = 4;

/// Sends each call to one of the endpoints of a destination. A clone is the same balancer.
///
/// The request's scheme and authority become the endpoint's. It is always ready: what is wrong is told by
/// [`call`](Service::call), with [`NotSent`]. See the [module](super).
pub struct Balance<M: MakeEndpoint>(Arc<Shared<M>>);

struct Shared<M: MakeEndpoint> {
    make: M,
    zone: Option<Arc<str>>,
    scheme: Scheme,
    refresh: Refresh,
    epoch: Instant,
    set: ArcSwap<Set<M::Service>>,
    /// Held by the one who makes the next set.
    making: Mutex<Making>,
}

struct Making {
    config: BalanceConfig,
    /// How many endpoints were made.
    made: u64,
}

/// How a destination stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standing {
    /// All that the registry lists.
    pub endpoints: usize,
    /// Those that calls may go to: the ones that the registry calls critical are left out while there are others.
    pub usable: usize,
    /// Those of them whose breaker lets calls through.
    pub available: usize,
    /// Whether so few are available that the others are used again.
    pub panic: bool,
}

impl<M: MakeEndpoint> Balance<M> {
    /// Over the endpoints that are told here. `zone` is where this instance runs.
    pub fn new(updates: watch::Receiver<Resolution>, make: M, config: &BalanceConfig, zone: Option<Arc<str>>) -> Self {
        Self::with_scheme(updates, make, config, zone, Scheme::HTTP)
    }

    /// As [`new`](Self::new), with another scheme than `http` in the requests.
    pub fn with_scheme(
        updates: watch::Receiver<Resolution>,
        make: M,
        config: &BalanceConfig,
        zone: Option<Arc<str>>,
        scheme: Scheme,
    ) -> Self {
        Self::with_refresh(updates, make, config, zone, scheme, Refresh::default())
    }

    /// As [`with_scheme`](Self::with_scheme). A connection that fails asks for the endpoints anew by `refresh`.
    pub fn with_refresh(
        updates: watch::Receiver<Resolution>,
        make: M,
        config: &BalanceConfig,
        zone: Option<Arc<str>>,
        scheme: Scheme,
        refresh: Refresh,
    ) -> Self {
        let set = Set::unread(updates, config);
        let making = Mutex::new(Making { config: config.clone(), made: 0 });
        Self(Arc::new(Shared { make, zone, scheme, refresh, epoch: now(), set: ArcSwap::from_pointee(set), making }))
    }

    /// Goes on with these settings. What is known of the endpoints stays.
    pub fn configure(&self, config: &BalanceConfig) {
        let mut making = self.0.making.lock().unwrap_or_else(PoisonError::into_inner);
        making.config = config.clone();
        self.make(&mut making);
    }

    /// How the list of endpoints was last told.
    pub fn resolution(&self) -> Resolution {
        self.current().resolution.clone()
    }

    /// How the destination stands now. It looks at each endpoint.
    pub fn standing(&self) -> Standing
    where
        M::Service: Available,
    {
        let set = self.current();
        let usable = set.usable.len();
        let census = set.census(now(), true);
        let available = census.as_ref().map_or(usable, |census| census.available);
        let panic = census.is_some_and(|census| census.panics());
        Standing { endpoints: set.nodes.len(), usable, available, panic }
    }

    /// Each endpoint with its service and its load.
    pub fn for_each(&self, mut each: impl FnMut(&Endpoint, &M::Service, Load)) {
        let (set, now) = (self.current(), now());
        for (at, node) in set.nodes.iter().enumerate() {
            each(set.endpoint(at), &node.service, node.gauge.load(now, &set.ewma));
        }
    }

    /// The same, those included that are being made at this moment: for what must reach all, after it was stored for those
    /// that are made from now on.
    pub fn for_each_made(&self, each: impl FnMut(&Endpoint, &M::Service, Load)) {
        {
            let mut making = self.0.making.lock().unwrap_or_else(PoisonError::into_inner);
            if self.0.set.load().is_stale() {
                self.make(&mut making);
            }
        }
        self.for_each(each);
    }

    /// Each endpoint with its load.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(Endpoint, Load)> {
        let mut endpoints = Vec::new();
        self.for_each(|endpoint, _, load| endpoints.push((endpoint.clone(), load)));
        endpoints
    }

    /// The endpoints as they were last told. The one who sees that there is something new makes the next set; others go on
    /// with the one before, unless there is none.
    fn current(&self) -> Guard<Arc<Set<M::Service>>> {
        let set = self.0.set.load();
        if !set.is_stale() {
            return set;
        }
        let making = if set.is_pending() {
            self.0.making.lock().unwrap_or_else(PoisonError::into_inner)
        } else {
            match self.0.making.try_lock() {
                Ok(making) => making,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return set,
            }
        };
        drop(set);
        let mut making = making;
        // Another may have been faster.
        if self.0.set.load().is_stale() {
            self.make(&mut making);
        }
        self.0.set.load()
    }

    fn make(&self, making: &mut Making) {
        let Making { config, made } = making;
        let zone = self.0.zone.as_deref();
        let (refresh, epoch) = (&self.0.refresh, self.0.epoch);
        let workshop = Workshop { make: &self.0.make, config, zone, refresh, epoch, made };
        let next = self.0.set.load().next(now(), workshop);
        self.0.set.store(Arc::new(next));
    }
}

impl<M> Balance<M>
where
    M: MakeEndpoint,
    M::Service: Available + Clone + Send + Sync + 'static,
{
    /// The service of an endpoint for this request, with the request made ready for it. `None` while no list is known.
    fn route(&self, request: &mut Request<RequestBody>) -> Option<Result<Routed<M::Service>, NotSent>> {
        let set = self.current();
        let now = now();
        let mut rng = Rng::with_seed(fastrand::u64(..));
        let mut left = PICKS;
        let (picked, service) = loop {
            let picked = match set.pick(now, &mut rng, Tried::of(request.extensions())) {
                Ok(picked) => picked,
                Err(Nobody::Empty) if set.is_pending() && !set.ended => return None,
                Err(nobody) => return Some(Err(not_sent(nobody, &set.resolution.freshness))),
            };
            let mut service = picked.node.service.clone();
            left -= 1;
            match service.admit(now, picked.bypass) {
                Ok(()) => break (picked, service),
                Err(refused) if left == 0 => return Some(Err(refused)),
                // Between the look and this, others took the last place. Nothing is sent yet, so another may have the call.
                Err(_) => {}
            }
        };
        if let Some(tried) = Tried::of(request.extensions()) {
            tried.ask(|| Arc::clone(&self.0) as Arc<dyn Others>);
            tried.add(picked.node.number);
        }
        if picked.bypass {
            request.extensions_mut().insert(Bypass);
        } else {
            request.extensions_mut().remove::<Bypass>();
        }
        address(request, self.0.scheme.clone(), picked.node.authority.clone());
        let node = Arc::clone(picked.node);
        Some(Ok(Routed { service, flight: Flight::start(node, now, set.ewma, request) }))
    }

    /// Waits for the first list of endpoints.
    async fn wait(self, deadline: Option<tokio::time::Instant>) -> Result<(), NotSent> {
        let started = tokio::time::Instant::now();
        let deadline = deadline.unwrap_or(started + DEFAULT_TIMEOUT);
        let mut receiver = self.current().receiver();
        loop {
            if !self.current().is_pending() {
                return Ok(());
            }
            let detail = match tokio::time::timeout_at(deadline, receiver.changed()).await {
                Ok(Ok(())) => continue,
                Ok(Err(_)) => "nobody looks for its endpoints any more".to_owned(),
                Err(_) => format!("waited {:?} for the first list of its endpoints", started.elapsed()),
            };
            return Err(NotSent::new(Cause::NoEndpoints).detail(detail));
        }
    }
}

impl<M> Others for Shared<M>
where
    M: MakeEndpoint,
    M::Service: Available + Send + Sync + 'static,
{
    fn has_untried(&self, tried: &Tried) -> bool {
        let (set, now) = (self.set.load(), now());
        let mut nodes = (0..set.usable.len()).map(|place| &set.nodes[set.usable.at(place)]);
        nodes.any(|node| !tried.contains(node.number) && node.service.is_available(now))
    }
}

struct Routed<S> {
    service: S,
    flight: Flight,
}

fn not_sent(nobody: Nobody, freshness: &Freshness) -> NotSent {
    match (nobody, freshness) {
        (Nobody::Held { endpoints, wait }, _) => {
            let not_sent =
                NotSent::new(Cause::CircuitOpen).detail(format!("none of {endpoints} endpoints is available"));
            match wait {
                Some(wait) => not_sent.retry_after(wait),
                None => not_sent,
            }
        }
        (Nobody::Empty, Freshness::Lost { reason, .. }) => {
            NotSent::new(Cause::NoEndpoints).detail(format!("its endpoints are not known: {reason}"))
        }
        (Nobody::Empty, Freshness::Pending) => {
            NotSent::new(Cause::NoEndpoints).detail("nobody looks for its endpoints any more")
        }
        (Nobody::Empty, Freshness::Fresh) => {
            NotSent::new(Cause::NoEndpoints).detail("the list of its endpoints is empty")
        }
    }
}

/// The request goes to this endpoint.
fn address(request: &mut Request<RequestBody>, scheme: Scheme, authority: Authority) {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(scheme);
    parts.authority = Some(authority);
    parts.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
    // It has all three parts, which is all that is asked for.
    *request.uri_mut() = http::Uri::from_parts(parts).unwrap_or_default();
}

impl<M, B> Service<Request<RequestBody>> for Balance<M>
where
    M: MakeEndpoint,
    M::Service: Service<Request<RequestBody>, Response = Response<B>, Error = BoxError>
        + Available
        + Clone
        + Send
        + Sync
        + 'static,
    <M::Service as Service<Request<RequestBody>>>::Future: Send,
    B: http_body::Body + Send + 'static,
{
    type Response = Response<WatchedBody<B, Flight>>;
    type Error = BoxError;
    type Future = ResponseFuture<M>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<RequestBody>) -> ResponseFuture<M> {
        let state = match self.route(&mut request) {
            Some(routed) => State::routed(routed, request),
            None => {
                let deadline = request.extensions().get::<CallInfo>().and_then(|info| info.deadline);
                let first = Box::pin(self.clone().wait(deadline));
                State::Waiting { balance: self.clone(), first, request: Some(request) }
            }
        };
        ResponseFuture { state }
    }
}

pin_project! {
    /// The future of [`Balance`].
    #[must_use = "futures do nothing unless they are polled"]
    pub struct ResponseFuture<M>
    where
        M: MakeEndpoint,
        M::Service: Service<Request<RequestBody>>,
    {
        #[pin]
        state: State<M, M::Service, <M::Service as Service<Request<RequestBody>>>::Future>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<M, S, F>
    where
        M: MakeEndpoint,
    {
        Waiting {
            balance: Balance<M>,
            first: Pin<Box<dyn Future<Output = Result<(), NotSent>> + Send>>,
            request: Option<Request<RequestBody>>,
        },
        // Boxed, because most services are ready at once.
        Ready { waiting: Option<Box<Waiting<S>>> },
        Calling { #[pin] answer: F, flight: Option<Flight> },
        Held { error: Option<BoxError> },
    }
}

/// A call whose endpoint takes its time to be ready.
struct Waiting<S> {
    service: S,
    flight: Flight,
    request: Request<RequestBody>,
}

impl<M, S> State<M, S, S::Future>
where
    M: MakeEndpoint,
    S: Service<Request<RequestBody>, Error = BoxError>,
{
    fn routed(routed: Result<Routed<S>, NotSent>, request: Request<RequestBody>) -> Self {
        match routed {
            Ok(Routed { mut service, flight }) => {
                // Who has to wait asks again, and with a waker.
                match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(Ok(())) => Self::Calling { answer: service.call(request), flight: Some(flight) },
                    Poll::Ready(Err(error)) => Self::Held { error: Some(failed(error, Some(flight))) },
                    Poll::Pending => Self::Ready { waiting: Some(Box::new(Waiting { service, flight, request })) },
                }
            }
            Err(not_sent) => Self::Held { error: Some(not_sent.into()) },
        }
    }
}

impl<M, B> Future for ResponseFuture<M>
where
    M: MakeEndpoint,
    M::Service: Service<Request<RequestBody>, Response = Response<B>, Error = BoxError>
        + Available
        + Clone
        + Send
        + Sync
        + 'static,
    B: http_body::Body + Send + 'static,
{
    type Output = Result<Response<WatchedBody<B, Flight>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProj::Waiting { balance, first, request } => {
                    ready!(first.as_mut().poll(cx))?;
                    let Some(mut request) = request.take() else { return polled_again() };
                    match balance.route(&mut request) {
                        Some(routed) => State::routed(routed, request),
                        None => State::Held { error: Some(NotSent::new(Cause::NoEndpoints).into()) },
                    }
                }
                StateProj::Ready { waiting } => {
                    let Some(held) = waiting.as_mut() else { return polled_again() };
                    let ready = ready!(held.service.poll_ready(cx));
                    let Some(held) = waiting.take() else { return polled_again() };
                    let Waiting { mut service, flight, request } = *held;
                    if let Err(error) = ready {
                        return Poll::Ready(Err(failed(error, Some(flight))));
                    }
                    State::Calling { answer: service.call(request), flight: Some(flight) }
                }
                StateProj::Calling { answer, flight } => {
                    let answer = ready!(answer.poll(cx));
                    let Some(flight) = flight.take() else { return polled_again() };
                    return Poll::Ready(match answer {
                        Ok(response) => Ok(flight.answered(response)),
                        Err(error) => Err(failed(error, Some(flight))),
                    });
                }
                StateProj::Held { error } => {
                    return error.take().map_or_else(polled_again, |error| Poll::Ready(Err(error)));
                }
            };
            state.set(next);
        }
    }
}

/// Polled after it was ready: there is nothing to give.
fn polled_again<T>() -> Poll<Result<T, BoxError>> {
    Poll::Ready(Err(NotSent::new(Cause::Internal).detail("polled after the answer").into()))
}

fn failed(error: BoxError, flight: Option<Flight>) -> BoxError {
    if let Some(flight) = flight {
        flight.failed(&error);
    }
    error
}

impl<M: MakeEndpoint> Clone for Balance<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: MakeEndpoint> fmt::Debug for Balance<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = self.0.set.load();
        f.debug_struct("Balance")
            .field("endpoints", &set.nodes.len())
            .field("freshness", &set.resolution.freshness)
            .finish_non_exhaustive()
    }
}

impl<M> fmt::Debug for ResponseFuture<M>
where
    M: MakeEndpoint,
    M::Service: Service<Request<RequestBody>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}
