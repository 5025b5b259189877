//! One destination of calls out: what its HTTP clients and its gRPC channels share.

use std::{
    collections::BTreeSet,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, Instant},
};

use axum::body::Body;
use http::{Request, Response};
use tokio::sync::{Notify, watch};
use tokio_util::task::AbortOnDropHandle;

use super::{
    body::RequestBody,
    breaker::BreakerMode,
    config::ClientConfig,
    dependency::{StackReport, Standing, standing},
    fallback::Fallbacks,
    http::Transport,
    levers::{Lever, Levers},
    propagate::Propagation,
};
use crate::{
    clock::now,
    discovery::{Freshness, Refresh, Resolution, Resolver, Target, Updates},
    error::BoxError,
    health::Reporter,
    telemetry::{audit, metrics::ClientLevels},
};

/// How long to rest between two looks that nothing but time calls for.
const FEED_PAUSE: Duration = Duration::from_secs(1);

/// How long to rest after each look, whatever changes meanwhile: 100 ms, as often as anybody reads a health check. Chosen: a
/// look makes a report of every endpoint, and a thousand breakers that change at once must not have a thousand made.
const FEED_REST: Duration = Duration::from_millis(100);

/// What carries the calls of one destination out; the order inside is the stack's.
pub(crate) trait Stack: Send + Sync + fmt::Debug {
    /// One call over HTTP, and all its attempts.
    fn send(
        &self,
        request: Request<RequestBody>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    /// The same over gRPC.
    fn send_grpc(
        &self,
        request: Request<RequestBody>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<tonic::body::Body>, BoxError>> + Send>>;

    /// Takes over what may change while the service runs. Counters, breakers and connections stay.
    fn configure(&self, config: &ClientConfig);

    /// What is known now.
    fn report(&self) -> StackReport;

    /// The same for the metrics.
    fn levels(&self) -> ClientLevels;

    /// Sets the mode of the breaker of this endpoint, or of all of them and of those to come; `None`
    /// gives it back to the settings. How many were set.
    fn force(&self, mode: Option<BreakerMode>, endpoint: Option<&str>) -> usize;
}

/// The endpoints of a destination, as they are found, and what asks for them anew.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) endpoints: watch::Receiver<Resolution>,
    pub(crate) refresh: Refresh,
}

/// One destination of calls out. It ends with its last client: so do its connections, and the watch over its endpoints.
pub(crate) struct Destination {
    name: Arc<str>,
    target: Target,
    stack: Box<dyn Stack>,
    /// Woken when a breaker changes.
    changed: Arc<Notify>,
    /// Held while a mode is set, so that the breakers and this say the same.
    levers: Mutex<Levers>,
    /// The end of an operator's mode has moved.
    moved: Notify,
    live: RwLock<Live>,
    answer_limit: usize,
    fallbacks: Fallbacks,
    endpoints: watch::Receiver<Resolution>,
    /// Follows the endpoints; aborted when this is dropped.
    _resolver: AbortOnDropHandle<()>,
}

/// What may change while the service runs, of what is looked at here.
struct Live {
    timeout: Duration,
    idempotent: Idempotents,
    propagation: Propagation,
}

impl Destination {
    /// Begins to follow the endpoints. Must be called inside a tokio runtime.
    pub(crate) fn new(
        name: &str,
        target: Target,
        config: &ClientConfig,
        resolver: &dyn Resolver,
        stack: impl FnOnce(Followed, Arc<Notify>) -> Box<dyn Stack>,
    ) -> Arc<Self> {
        let (updates, endpoints) = Updates::channel();
        let followed = Followed { endpoints: endpoints.clone(), refresh: updates.refresh() };
        let resolver = AbortOnDropHandle::new(tokio::spawn(resolver.follow(updates)));
        let changed = Arc::new(Notify::new());
        Arc::new(Self {
            name: name.into(),
            target,
            stack: stack(followed, Arc::clone(&changed)),
            changed,
            levers: Mutex::default(),
            moved: Notify::new(),
            live: RwLock::new(Live::new(config)),
            answer_limit: config.answer_limit.bytes(),
            fallbacks: Fallbacks::default(),
            endpoints,
            _resolver: resolver,
        })
    }

    /// The name under which the service calls it.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Where its endpoints are found.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// What is known of its endpoints.
    pub(crate) fn endpoints(&self) -> watch::Receiver<Resolution> {
        self.endpoints.clone()
    }

    /// Takes over what may change while the service runs. Counters, breakers and connections stay.
    pub(crate) fn configure(&self, config: &ClientConfig) {
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Live::new(config);
        self.stack.configure(config);
    }

    /// How long a call may take unless it says otherwise.
    pub(super) fn timeout(&self) -> Duration {
        self.live.read().unwrap_or_else(PoisonError::into_inner).timeout
    }

    /// The same, and whether the gRPC method is declared idempotent.
    pub(super) fn rules_of(&self, path: &str) -> (Duration, bool) {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        (live.timeout, live.idempotent.has(path))
    }

    pub(super) fn answer_limit(&self) -> usize {
        self.answer_limit
    }

    pub(crate) fn stack(&self) -> &dyn Stack {
        &*self.stack
    }

    /// The operator's lever: sets the mode of the breaker of this endpoint, or of all of them and of those to come, until that
    /// time; `None` gives it back to the settings. How many were set.
    pub(crate) fn force(&self, mode: Option<BreakerMode>, endpoint: Option<&str>, until: Instant) -> usize {
        let mut levers = self.levers();
        // One that is given back has the mode of all, if an operator has set that too.
        let all = endpoint.and_then(|_| levers.of_all());
        let set = self.stack.force(mode.or(all), endpoint);
        if set == 0 && endpoint.is_some() {
            return 0;
        }
        match mode {
            Some(mode) => levers.set(Lever { endpoint: endpoint.map(Into::into), mode, until }),
            None => levers.clear(endpoint),
        }
        drop(levers);
        self.moved.notify_one();
        set
    }

    /// The modes that operators have set.
    pub(crate) fn forced(&self) -> Vec<Lever> {
        self.levers().iter().cloned().collect()
    }

    /// Ends the modes that operators have set when their time is up; runs until dropped.
    pub(crate) async fn expire_levers(self: Arc<Self>) {
        loop {
            let end = self.levers().next_end();
            match end {
                None => self.moved.notified().await,
                Some(end) => tokio::select! {
                    () = self.moved.notified() => {}
                    () = tokio::time::sleep_until(end.into()) => self.expire(now()),
                },
            }
        }
    }

    fn expire(&self, now: Instant) {
        let mut levers = self.levers();
        for Lever { endpoint, mode, .. } in levers.expire(now) {
            let set = self.stack.force(levers.of_all().filter(|_| endpoint.is_some()), endpoint.as_deref());
            if endpoint.is_none() {
                for lever in levers.iter() {
                    self.stack.force(Some(lever.mode), lever.endpoint.as_deref());
                }
            }
            let (endpoint, mode) = (endpoint.as_deref(), serde_json::json!(mode));
            audit::record(&audit::Event {
                actor: &"the end of its time",
                action: "dependency.breaker_released",
                object: &self.name,
                outcome: audit::Outcome::Success,
                fields: &[("mode", &mode), ("endpoint", &endpoint), ("breakers", &set)],
            });
            tracing::info!(destination = &*self.name, %mode, endpoint, breakers = set, "the time of an operator's mode is up");
        }
    }

    fn levers(&self) -> MutexGuard<'_, Levers> {
        self.levers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the health registry how it stands, when a breaker or the list of endpoints changes, until dropped: at once after
    /// a quiet time, else ten times a second.
    ///
    /// A destination that nobody has called yet is no reason for anything: it counts as up. One that is `critical` is
    /// unknown until its endpoints are.
    pub(crate) async fn feed(self: Arc<Self>, reporter: Reporter, critical: bool) {
        let mut endpoints = self.endpoints();
        let mut told = None;
        loop {
            // Marked as seen before anything is looked at, so that what comes meanwhile wakes again.
            endpoints.mark_unchanged();
            let report = self.stack.report();
            let now = standing(&report.endpoints, &self.freshness());
            if told.as_ref() != Some(&now) {
                match &now {
                    (Standing::Up, _) => reporter.up(),
                    // Nothing wakes this when the first call goes well, so that nothing is said of it.
                    (Standing::Unknown, _) if !report.endpoints.is_empty() => reporter.up(),
                    (Standing::Unknown, _) if critical => {}
                    (Standing::Unknown, why) => reporter.up_with(why.as_str()),
                    (Standing::Degraded, why) => reporter.degraded(why.as_str()),
                    (Standing::Down, why) => reporter.down(why.as_str()),
                }
                told = Some(now);
            }
            // What changes meanwhile is looked at once, after the rest.
            tokio::time::sleep(FEED_REST).await;
            // An open breaker becomes half-open by time alone, and nobody tells.
            let waits = report.endpoints.iter().filter_map(|endpoint| endpoint.breaker.wait);
            let next = waits.min().map(|wait| wait.max(FEED_PAUSE));
            tokio::select! {
                () = self.changed.notified() => {}
                Ok(()) = endpoints.changed() => {}
                () = tokio::time::sleep(next.unwrap_or_default()), if next.is_some() => {}
            }
        }
    }

    /// Whether the list of its endpoints still holds.
    pub(crate) fn freshness(&self) -> Freshness {
        self.endpoints.borrow().freshness.clone()
    }

    /// The levels that its metrics show.
    pub(crate) fn levels(&self) -> ClientLevels {
        let stale = matches!(self.freshness(), Freshness::Lost { .. });
        let now = now();
        let forced = self.levers().iter().map(|lever| lever.until.saturating_duration_since(now)).max();
        let forced = forced.unwrap_or_default();
        ClientLevels { stale, forced, fallbacks: self.fallbacks.read(), ..self.stack.levels() }
    }
}

impl Live {
    fn new(config: &ClientConfig) -> Self {
        Self {
            timeout: config.timeout.get(),
            idempotent: Idempotents::new(&config.idempotent),
            propagation: config.propagation(),
        }
    }
}

/// The gRPC methods of which a second call does no harm.
#[derive(Debug, Default)]
struct Idempotents {
    all: bool,
    methods: BTreeSet<String>,
}

impl Idempotents {
    fn new(list: &[String]) -> Self {
        let methods = list.iter().map(|method| method.trim_start_matches('/').to_owned()).collect::<BTreeSet<_>>();
        Self { all: methods.contains("*"), methods }
    }

    fn has(&self, path: &str) -> bool {
        self.all || (!self.methods.is_empty() && self.methods.contains(path.trim_start_matches('/')))
    }
}

impl Transport for Destination {
    fn writes_context(&self) -> bool {
        true
    }

    fn propagation(&self) -> Option<Propagation> {
        Some(self.live.read().unwrap_or_else(PoisonError::into_inner).propagation)
    }

    fn send(
        &self,
        request: Request<RequestBody>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>> {
        self.stack.send(request)
    }

    fn fallbacks(&self) -> Option<&Fallbacks> {
        Some(&self.fallbacks)
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Destination({}, {})", self.name, self.target)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;
    use crate::{
        client::{
            hedge::Hedge,
            limit::Limit,
            retry::{Budget, Retry},
        },
        discovery::Memory,
        health::{Criticality, Registry},
    };

    /// Counts its reports.
    #[derive(Debug, Default)]
    struct Reports(Arc<AtomicUsize>, Arc<Mutex<Vec<Forced>>>);

    /// A mode that was set, and of which endpoint.
    type Forced = (Option<BreakerMode>, Option<String>);

    impl Stack for Reports {
        fn send(
            &self,
            _: Request<RequestBody>,
        ) -> Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>> {
            unimplemented!("nobody calls")
        }

        fn send_grpc(
            &self,
            _: Request<RequestBody>,
        ) -> Pin<Box<dyn Future<Output = Result<Response<tonic::body::Body>, BoxError>> + Send>> {
            unimplemented!("nobody calls")
        }

        fn configure(&self, _: &ClientConfig) {}

        fn report(&self) -> StackReport {
            self.0.fetch_add(1, Relaxed);
            let (config, now) = (ClientConfig::default(), tokio::time::Instant::now().into_std());
            let budget = Budget::new(&config.retry, now);
            StackReport {
                limit: Limit::new(&config.limit).counts(),
                budget: budget.counts(now),
                retry: Retry::new(&config.retry, budget.clone()).counts(),
                hedge: Hedge::new(&config.hedge, budget, now).counts(now),
                endpoints: Vec::new(),
            }
        }

        fn levels(&self) -> ClientLevels {
            ClientLevels::default()
        }

        fn force(&self, mode: Option<BreakerMode>, endpoint: Option<&str>) -> usize {
            self.1.lock().unwrap().push((mode, endpoint.map(str::to_owned)));
            usize::from(endpoint != Some("nobody"))
        }
    }

    /// One without endpoints, and how often it was looked at.
    fn destination() -> (Arc<Destination>, Arc<AtomicUsize>) {
        let reports = Arc::new(AtomicUsize::new(0));
        (over(Reports(Arc::clone(&reports), Arc::default())), reports)
    }

    fn over(stack: Reports) -> Arc<Destination> {
        let target = "memory://stock".parse().unwrap();
        let resolver = Memory::default().resolver("stock");
        Destination::new("stock", target, &ClientConfig::default(), &resolver, |_, _| Box::new(stack))
    }

    #[tokio::test(start_paused = true)]
    async fn a_forced_breaker_ends_by_itself() {
        use BreakerMode::{Disabled, ForcedOpen};
        let (seen, minute) = (Arc::new(Mutex::new(Vec::new())), Duration::from_secs(60));
        let destination = over(Reports(Arc::default(), Arc::clone(&seen)));
        let _ends = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&destination).expire_levers()));
        let took = || std::mem::take(&mut *seen.lock().unwrap());
        let of = |endpoint: &str| Some(endpoint.to_owned());
        destination.force(Some(ForcedOpen), None, now() + 2 * minute);
        destination.force(Some(Disabled), Some("a"), now() + minute);
        destination.force(Some(Disabled), Some("b"), now() + 3 * minute);
        destination.force(Some(Disabled), Some("nobody"), now() + minute);
        assert_eq!((destination.forced().len(), took().len()), (3, 4));
        assert_eq!(destination.levels().forced, 3 * minute);
        // Behind the end, so that it comes first.
        tokio::time::sleep(minute + Duration::from_millis(1)).await;
        assert_eq!(took(), [(Some(ForcedOpen), of("a"))], "the mode of all holds for it");
        tokio::time::sleep(minute).await;
        assert_eq!(took(), [(None, None), (Some(Disabled), of("b"))], "its own mode lasts longer");
        tokio::time::sleep(minute).await;
        assert_eq!(took(), [(None, of("b"))]);
        assert_eq!((destination.forced(), destination.levels().forced), (vec![], Duration::ZERO));
        // One that is taken back early ends nothing later.
        destination.force(Some(ForcedOpen), None, now() + minute);
        destination.force(None, None, now());
        took();
        tokio::time::sleep(2 * minute).await;
        assert_eq!(took(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn breakers_that_change_without_end_are_looked_at_ten_times_a_second() {
        let (destination, reports) = destination();
        let reporter = Registry::default().own_reporter("client:stock", Criticality::NotCritical);
        let _feed = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&destination).feed(reporter, false)));
        // After the first list, a quiet time.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let before = reports.load(Relaxed);
        destination.changed.notify_one();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(reports.load(Relaxed) - before, 1, "the first is looked at once");
        for _ in 0..1000 {
            destination.changed.notify_one();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let looks = reports.load(Relaxed) - before;
        assert!((10..=12).contains(&looks), "{looks} looks in a second");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(reports.load(Relaxed) - before <= looks + 1, "and once after the last");
    }

    #[tokio::test]
    async fn other_idempotent_methods_count_from_the_next_call_on() {
        let (destination, _) = destination();
        let is_idempotent = || destination.rules_of("/inventory.v1.Inventory/Get").1;
        assert!(!is_idempotent());
        let idempotent = vec!["inventory.v1.Inventory/Get".to_owned()];
        destination.configure(&ClientConfig { idempotent, ..ClientConfig::default() });
        assert!(is_idempotent());
    }

    #[test]
    fn a_method_is_idempotent_when_it_is_listed_with_or_without_the_slash() {
        let listed = Idempotents::new(&["inventory.v1.Inventory/Get".into(), "/inventory.v1.Inventory/List".into()]);
        for (path, expected) in [
            ("/inventory.v1.Inventory/Get", true),
            ("/inventory.v1.Inventory/List", true),
            ("/inventory.v1.Inventory/Reserve", false),
            ("/inventory.v1.Inventory", false),
        ] {
            assert_eq!(listed.has(path), expected, "{path}");
        }
        assert!(Idempotents::new(&["*".into()]).has("/any.Thing/At"));
        assert!(!Idempotents::new(&[]).has("/any.Thing/At"));
    }
}
