//! What a call passes on its way out, outermost first.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Instant,
};

use axum::body::Body;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceBuilder;
use tower_service::Service;

use super::inbound::LayerInfo;
use crate::{
    client::{
        CallInfo, ClientConfig, Propagated, RequestBody, UpstreamAttempt,
        balance::{Balance, MakeEndpoint},
        breaker::{Breaker, BreakerConfig, BreakerLayer, BreakerMode, BreakerService, BreakerState, Transition},
        channel::answer_body,
        deadline::{AttemptTimeout, AttemptTimeoutLayer, AttemptTimeoutService, Deadline, DeadlineLayer},
        dependency::{BreakerReport, EndpointReport, StackReport},
        destination::{Followed, Stack},
        grpc_status::{GrpcStatusLayer, GrpcStatusService},
        hedge::{Hedge, HedgeLayer, HedgeService},
        knock::{Door, knock},
        limit::{Limit, LimitLayer, LimitService},
        observe::{AttemptLayer, AttemptService, CallLayer, CallService, ClientObserver, EndpointStats},
        pool::{Pool, Pools},
        retry::{Budget, Retry, RetryLayer, RetryService},
    },
    clock::{self, Moments},
    context::RequestContext,
    discovery::Endpoint,
    error::{BoxError, Result},
    telemetry::metrics::ClientLevels,
};

/// The whole stack of one destination.
pub(crate) type Outbound = CallService<Deadline<LimitService<HedgeService<RetryService<Balance<Endpoints>>>>>>;

/// What each endpoint has for itself.
pub(crate) type PerEndpoint = BreakerService<AttemptService<AttemptTimeoutService<GrpcStatusService<Pool>>>>;

/// Makes the inner part of the stack, for each endpoint its own.
pub(crate) struct Endpoints {
    pools: Arc<Pools>,
    observer: Arc<ClientObserver>,
    attempt_timeout: AttemptTimeout,
    breakers: Arc<Mutex<Breakers>>,
    /// Woken when a breaker changes.
    changed: Arc<Notify>,
    /// Woken when a breaker opens: its endpoint may be one to knock at.
    opened: Arc<Notify>,
}

/// What breakers are made with.
#[derive(Debug)]
struct Breakers {
    config: BreakerConfig,
    /// What an operator has set for all.
    forced: Option<BreakerMode>,
}

impl Endpoints {
    fn breaker(&self, endpoint: &Endpoint) -> Breaker {
        let breaker = {
            let breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
            let breaker = Breaker::new(&breakers.config);
            breaker.force(breakers.forced);
            breaker
        };
        let (observer, changed) = (Arc::clone(&self.observer), Arc::clone(&self.changed));
        let opened = Arc::clone(&self.opened);
        let endpoint = endpoint.clone();
        breaker.on_transition(Arc::new(move |transition| {
            if let Some(state) = word(transition) {
                let reason = transition.reason.map_or("", |reason| reason.as_str());
                observer.breaker_changed(&endpoint, state, reason);
            }
            changed.notify_one();
            if transition.to == BreakerState::Open {
                opened.notify_one();
            }
        }));
        breaker
    }
}

/// What is told of a change: what callers see of it. Behind a gate that another mode holds, only what might have been is told,
/// under a word that is no state, so that the metrics do not count it.
fn word(transition: &Transition) -> Option<&'static str> {
    use BreakerState::{Closed, HalfOpen, Open};

    match (transition.mode, transition.to) {
        (BreakerMode::MetricsOnly, Open) => Some("would_open"),
        (BreakerMode::MetricsOnly | BreakerMode::ForcedOpen, Closed | HalfOpen | Open) => None,
        (_, to) => Some(to.as_str()),
    }
}

impl MakeEndpoint for Endpoints {
    type Service = PerEndpoint;

    fn make(&self, endpoint: &Endpoint) -> PerEndpoint {
        let stats = Arc::new(EndpointStats::new(endpoint));
        ServiceBuilder::new()
            // Next to the balancer, which passes over an endpoint that it holds back. Sees what an attempt came to.
            .layer(BreakerLayer::new(self.breaker(endpoint)))
            // Only what is really sent is an attempt. Writes what travels with it: its own span is the parent.
            .layer(AttemptLayer::new(Arc::clone(&self.observer), stats))
            // Inside both, so that an attempt that takes too long is seen to have failed.
            .layer(AttemptTimeoutLayer::new(self.attempt_timeout.clone()).around_a_pool())
            // Next to the connections, so that all layers outside see one code of an answer that is no gRPC.
            .layer(GrpcStatusLayer)
            // The last to touch the request: it says how much time is left, and sends.
            .service(self.pools.pool(endpoint))
    }

    fn make_successor(&self, endpoint: &Endpoint, before: &PerEndpoint) -> PerEndpoint {
        let service = self.make(endpoint);
        service.breaker().take_over(before.breaker(), clock::now());
        service
    }

    fn recovered(&self, service: &PerEndpoint) {
        service.breaker().probe_now(clock::now());
    }
}

/// The endpoints that calls are kept from because they accept no connection.
fn doors(balance: &Balance<Endpoints>, now: Instant) -> Vec<Door> {
    let mut doors = Vec::new();
    balance.for_each(|endpoint, service, _| {
        let breaker = service.breaker();
        if breaker.state(now) == BreakerState::Open && breaker.is_unreachable() {
            doors.push(Door { host: Arc::clone(&endpoint.host), port: endpoint.port, breaker: breaker.clone() });
        }
    });
    doors
}

/// Puts the stack of a destination together. All its endpoints have this name, or each its own host.
///
/// # Errors
///
/// Exit code 78: a certificate or key that cannot be read.
pub(crate) fn outbound(
    config: &ClientConfig,
    name: Option<&str>,
    zone: Option<&str>,
    observer: Arc<ClientObserver>,
) -> Result<impl FnOnce(Followed, Arc<Notify>) -> Box<dyn Stack> + use<>> {
    let pools = Pools::new(&config.pool, config.protocol, &config.tls, name)?;
    observer.propagate(config.propagation());
    let (config, zone) = (config.clone(), zone.map(Into::into));
    Ok(move |Followed { endpoints: resolution, refresh }, changed| {
        let now = clock::now();
        let budget = Budget::new(&config.retry, now);
        let limit = Limit::new(&config.limit);
        let hedge = Hedge::new(&config.hedge, budget.clone(), now);
        let retry = Retry::new(&config.retry, budget);
        let attempt_timeout = AttemptTimeout::new(config.attempt_timeout.map(Into::into));
        let breakers = Arc::new(Mutex::new(Breakers { config: config.breaker.clone(), forced: None }));
        let scheme = pools.scheme().clone();
        let opened = Arc::new(Notify::new());
        let endpoints = Endpoints {
            pools,
            observer: Arc::clone(&observer),
            attempt_timeout: attempt_timeout.clone(),
            breakers: Arc::clone(&breakers),
            changed,
            opened: Arc::clone(&opened),
        };
        let balance = Balance::with_refresh(resolution, endpoints, &config.balance, zone, scheme, refresh);
        let knocked_at = balance.clone();
        let knocker = tokio::spawn(knock(opened, move |now| doors(&knocked_at, now)));
        let service: Outbound = ServiceBuilder::new()
            // Sees every outcome, refusals included, and what the caller waited for.
            .layer(CallLayer::new(Arc::clone(&observer)))
            // Around all that takes time: a wait for a place, for a retry, for an answer.
            .layer(DeadlineLayer::new())
            // Outside the attempts: what is limited are calls, and a retry must not wait behind others for a second place.
            .layer(LimitLayer::new(limit.clone()))
            // Outside the retries: a hedge is one more call of its own, and pays from the same budget.
            .layer(HedgeLayer::new(hedge.clone()))
            // Outside the balancer, so that each attempt may go to another endpoint.
            .layer(RetryLayer::new(retry.clone()))
            // Chooses the endpoint; what follows is made for each by `Endpoints`.
            .service(balance.clone());
        let name = observer.destination().into();
        let _knocker = AbortOnDropHandle::new(knocker);
        Box::new(Parts { name, service, observer, limit, hedge, retry, balance, attempt_timeout, breakers, _knocker })
            as Box<dyn Stack>
    })
}

/// The stack, and a hold on those of its layers that are changed or looked at.
struct Parts {
    name: Arc<str>,
    service: Outbound,
    observer: Arc<ClientObserver>,
    limit: Limit,
    hedge: Hedge,
    retry: Retry,
    balance: Balance<Endpoints>,
    attempt_timeout: AttemptTimeout,
    breakers: Arc<Mutex<Breakers>>,
    /// Knocks at endpoints that refuse connections; aborted when this is dropped.
    _knocker: AbortOnDropHandle<()>,
}

impl Parts {
    /// The request with what the layers know of each other by, into the stack.
    fn call(&self, mut request: Request<RequestBody>) -> <Outbound as Service<Request<RequestBody>>>::Future {
        let upstream = |context: Option<&RequestContext>| context.map_or(0, RequestContext::previous_attempts);
        let previous = match request.extensions().get::<RequestContext>() {
            Some(context) => upstream(Some(context)),
            None => RequestContext::with_current(upstream),
        };
        if previous > 0 {
            request.extensions_mut().insert(UpstreamAttempt(previous));
        }
        if !self.observer.propagation().has(Propagated::Deadline) {
            CallInfo::with(&mut request, CallInfo::hide_time);
        }
        // What a single attempt was sent to nobody asks.
        if self.retry.attempts() > 1 || self.hedge.is_enabled() {
            CallInfo::with(&mut request, CallInfo::remember_tried);
        }
        // Every layer is ready at any time; what it holds back it tells in `call`.
        self.service.clone().call(request)
    }
}

pin_project! {
    /// A call under way. Each poll of it, and of its answer's body, is one moment.
    struct Answering<F, W> {
        #[pin]
        call: F,
        wrap: Option<W>,
    }
}

impl<F, W, A, B> Future for Answering<F, W>
where
    F: Future<Output = Result<Response<A>, BoxError>>,
    W: FnOnce(A) -> B,
{
    type Output = Result<Response<B>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(wrap) = this.wrap.take() else { return Poll::Ready(Err("polled after the answer".into())) };
        let Poll::Ready(result) = clock::hold(|| this.call.poll(cx)) else {
            *this.wrap = Some(wrap);
            return Poll::Pending;
        };
        Poll::Ready(result.map(|response| response.map(wrap)))
    }
}

impl Stack for Parts {
    fn send(
        &self,
        request: Request<RequestBody>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>> {
        clock::hold(|| {
            Box::pin(Answering { call: self.call(request), wrap: Some(|body| Body::new(Moments::new(body))) })
        })
    }

    fn send_grpc(
        &self,
        request: Request<RequestBody>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<tonic::body::Body>, BoxError>> + Send>> {
        let name = Arc::clone(&self.name);
        let wrap = move |body| answer_body(Moments::new(body), name);
        clock::hold(|| Box::pin(Answering { call: self.call(request), wrap: Some(wrap) }))
    }

    fn configure(&self, config: &ClientConfig) {
        self.observer.propagate(config.propagation());
        self.limit.configure(&config.limit);
        self.hedge.configure(&config.hedge);
        self.retry.configure(&config.retry);
        self.attempt_timeout.configure(config.attempt_timeout.map(Into::into));
        // Stored first, for the endpoints that are made from now on; then the balancer waits for one that is being made.
        self.breakers.lock().unwrap_or_else(PoisonError::into_inner).config = config.breaker.clone();
        self.balance.configure(&config.balance);
        self.balance.for_each_made(|_, service, _| service.breaker().configure(&config.breaker));
    }

    fn report(&self) -> StackReport {
        let now = clock::now();
        let mut endpoints = Vec::new();
        self.balance.for_each(|endpoint, service, load| {
            let (breaker, stats) = (service.breaker(), service.get_ref().endpoint());
            endpoints.push(EndpointReport {
                endpoint: endpoint.clone(),
                load,
                breaker: BreakerReport {
                    state: breaker.state(now),
                    forced: breaker.forced(),
                    wait: breaker.wait(now),
                    unreachable: breaker.is_unreachable(),
                    counts: breaker.counts(now),
                },
                attempts: stats.counts(),
                latency: stats.latency(),
                last_error: stats.last_error(),
            });
        });
        StackReport {
            limit: self.limit.counts(),
            budget: self.retry.budget().counts(now),
            retry: self.retry.counts(),
            hedge: self.hedge.counts(now),
            endpoints,
        }
    }

    fn levels(&self) -> ClientLevels {
        let now = clock::now();
        let (limit, retry, hedge) = (self.limit.counts(), self.retry.counts(), self.hedge.counts(now));
        let mut states: Vec<(&'static str, u64)> = Vec::new();
        self.balance.for_each(|_, service, _| {
            let breaker = service.breaker();
            let state = match breaker.state(now) {
                BreakerState::Open if breaker.is_unreachable() => "unreachable",
                state => state.as_str(),
            };
            match states.iter_mut().find(|(known, _)| *known == state) {
                Some((_, count)) => *count += 1,
                None => states.push((state, 1)),
            }
        });
        ClientLevels {
            active: u64::from(limit.in_use),
            queued: u64::from(limit.queued),
            endpoints: states,
            retries: vec![
                ("failed", retry.failed),
                ("timed_out", retry.timed_out),
                ("throttled", retry.throttled),
                ("unreachable", retry.unreachable),
            ],
            retries_held_back: self.retry.held_back(),
            budget_exhausted: vec![("retry", retry.budget_exhausted), ("hedge", hedge.budget_exhausted)],
            hedges: vec![("won", hedge.won), ("lost", hedge.lost), ("held_back", hedge.held_back)],
            ..self.observer.levels()
        }
    }

    fn force(&self, mode: Option<BreakerMode>, endpoint: Option<&str>) -> usize {
        if endpoint.is_none() {
            self.breakers.lock().unwrap_or_else(PoisonError::into_inner).forced = mode;
        }
        let mut set = 0;
        self.balance.for_each_made(|known, service, _| {
            if endpoint.is_none_or(|wanted| *known.id == *wanted) {
                service.breaker().force(mode);
                set += 1;
            }
        });
        set
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::any::type_name::<Outbound>())
    }
}

/// The effective order with its resolved numbers. A test compares it with the type of the stack.
pub(crate) fn describe(name: &str, config: &ClientConfig) -> Vec<LayerInfo> {
    let key = |key: &str| format!("clients.{name}.{key}");
    let client = name.to_owned();
    let layer = |name, does, settings: &[(&str, String)]| LayerInfo {
        client: Some(client.clone()),
        name,
        does,
        settings: settings.iter().map(|(name, value)| (key(name).into(), value.clone())).collect(),
    };
    let (hedge, retry, breaker) = (&config.hedge, &config.retry, &config.breaker);
    let attempt_timeout = config.attempt_timeout.map_or("the call's".to_owned(), |timeout| timeout.to_string());
    vec![
        layer("call", "the call's span, metrics, log line", &[]),
        layer("deadline", "what is left of the caller's time, or its own", &[("timeout", config.timeout.to_string())]),
        layer(
            "limit",
            "503 bulkhead_full above the limit and its queue",
            &[
                ("limit.concurrency", config.limit.concurrency.to_string()),
                ("limit.queue", config.limit.queue.to_string()),
            ],
        ),
        layer(
            "hedge",
            "a second attempt beside one that takes long",
            &match hedge.enabled {
                true => vec![("hedge.percentile", hedge.percentile.to_string())],
                false => vec![("hedge.enabled", "false".to_owned())],
            },
        ),
        layer(
            "retry",
            "another attempt when that does no harm",
            &[("retry.attempts", retry.attempts.to_string()), ("retry.budget_ratio", retry.budget_ratio.to_string())],
        ),
        layer("balance", "the less loaded of two endpoints", &[]),
        layer(
            "breaker",
            "holds back an endpoint that fails",
            &[
                ("breaker.failure_rate", breaker.failure_rate.to_string()),
                ("breaker.consecutive_failures", breaker.consecutive_failures.to_string()),
            ],
        ),
        layer("attempt", "the attempt's span, metrics, headers", &[]),
        layer("attempt_timeout", "the time of one attempt", &[("attempt_timeout", attempt_timeout)]),
        layer("grpc_status", "a gRPC status for answers without one", &[]),
        layer(
            "pool",
            "the connections to the endpoint",
            &[
                ("pool.connect_timeout", config.pool.connect_timeout.to_string()),
                ("pool.max_idle", config.pool.max_idle.to_string()),
            ],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::client::Outcome;

    /// The services of a type, outermost first: `CallService` is `call`, `AttemptTimeoutService` is `attempttimeout`.
    fn names(nested: &str) -> Vec<String> {
        let parts = nested.split('<').filter_map(|part| part.split("::").last());
        parts.map(|name| name.trim_end_matches('>').trim_end_matches("Service").to_lowercase()).collect()
    }

    /// What is told of each change that four failures and the operator's lever bring about.
    #[tokio::test]
    async fn a_breaker_that_lets_calls_through_or_is_forced_open_is_not_told_to_have_opened() {
        for (mode, expected) in [
            (BreakerMode::Enforcing, &["open", "forced_open", "open"][..]),
            (BreakerMode::MetricsOnly, &["would_open", "forced_open", "metrics_only"]),
            (BreakerMode::ForcedOpen, &[]),
        ] {
            let config = BreakerConfig { mode, consecutive_failures: 2, ..BreakerConfig::default() };
            let (breaker, told) = (Breaker::new(&config), Arc::new(Mutex::new(Vec::new())));
            let hears = Arc::clone(&told);
            breaker.on_transition(Arc::new(move |transition| hears.lock().unwrap().extend(word(transition))));
            let now = clock::now();
            for _ in 0..4 {
                if let Ok(permit) = breaker.admit(now) {
                    permit.record(Outcome::Failed, Duration::ZERO, now);
                }
            }
            breaker.force(Some(BreakerMode::ForcedOpen));
            breaker.force(None);
            assert_eq!(*told.lock().unwrap(), expected, "{mode:?}");
        }
        let hidden = |mode, to| word(&Transition { from: BreakerState::Closed, to, mode, reason: None, wait: None });
        assert_eq!(hidden(BreakerMode::ForcedOpen, BreakerState::HalfOpen), None);
        assert_eq!(hidden(BreakerMode::MetricsOnly, BreakerState::Closed), None);
    }

    #[test]
    fn the_described_order_is_the_order_of_the_stack() {
        let described: Vec<String> =
            describe("inventory", &ClientConfig::default()).iter().map(|layer| layer.name.replace('_', "")).collect();
        let mut stack = names(std::any::type_name::<Outbound>());
        assert_eq!(stack.pop().as_deref(), Some("endpoints"));
        stack.extend(names(std::any::type_name::<PerEndpoint>()));
        assert_eq!(stack, described);
    }
}
