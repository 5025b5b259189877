//! The handle that everybody shares: checks and reports go in, one truth comes out.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{
    Check, CheckOptions, Criticality, HealthConfig, Report, Status, Summary,
    aggregate::{Board, Change, Services},
    responses::Answers,
    scheduler::{self, Job},
    state::Outcome,
};

use crate::clock::now;

/// The name of the built-in check that panics degrade.
pub(crate) const PANICS: &str = "panics";

/// The names of built-in checks, and how the names of families of them begin.
const OWN: [&str; 6] = [PANICS, "event_loop", "responses", "config", "consul_kv", "registration"];
const OWN_FAMILIES: [&str; 3] = ["background:", "client:", "leader:"];

/// Why a check is not added.
const TWICE: &str = "another check has this name already; give one of them another name";
const BUILT_IN: &str = "the chassis has a check of this name itself; choose another name";

fn is_own(name: &str) -> bool {
    OWN.contains(&name) || OWN_FAMILIES.iter().any(|family| name.starts_with(family))
}

/// The one truth about this instance's health. Cheap to clone; all clones are the same registry.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

struct Shared {
    config: HealthConfig,
    board: Mutex<Board>,
    /// Checks that the scheduler has not taken over yet.
    pending: Mutex<Vec<Job>>,
    added: Notify,
    refused: Mutex<Refused>,
    summary: watch::Sender<Summary>,
    serving: watch::Sender<Arc<Services>>,
    /// Panics of requests, each reported by its layer.
    panics: AtomicU64,
    followed: OnceLock<Followed>,
    answers: OnceLock<Box<dyn Fn() -> Answers + Send + Sync>>,
    lag_nanos: AtomicU64,
}

/// Checks that were not added, and why.
#[derive(Default)]
struct Refused {
    by_name: BTreeMap<Arc<str>, &'static str>,
    /// Whether the start has looked at them; what comes later is logged.
    taken: bool,
}

/// A count of all panics of the process, whoever caught them.
struct Followed {
    total: Box<dyn Fn() -> u64 + Send + Sync>,
    /// The count when following began: what was before is not this registry's.
    before: u64,
    seen: AtomicU64,
}

impl Registry {
    /// A registry with no check but `panics`, not started.
    #[must_use]
    pub fn new(config: HealthConfig) -> Self {
        let mut board = Board::default();
        board.report(&PANICS.into(), Status::Up, None, None, now());
        board.take_changes();
        Self(Arc::new(Shared {
            config,
            summary: watch::Sender::new(board.summary()),
            serving: watch::Sender::new(Arc::new(board.serving())),
            board: Mutex::new(board),
            pending: Mutex::default(),
            added: Notify::new(),
            refused: Mutex::default(),
            panics: AtomicU64::new(0),
            followed: OnceLock::new(),
            answers: OnceLock::new(),
            lag_nanos: AtomicU64::new(0),
        }))
    }

    /// Adds a critical check, run as `[health]` says. Its name must be free, as [`check_with`](Self::check_with) says.
    pub fn check(&self, name: impl Into<Arc<str>>, check: impl Check) {
        self.check_with(name, CheckOptions::default(), check);
    }

    /// Adds a check that differs from the defaults.
    ///
    /// A name is taken once: two checks of one name, a scheduled and a reported one of one name, and the names of the
    /// built-in checks (`panics`, `event_loop`, `responses`, `config`, `consul_kv`, `registration`, `background:…`, `client:…`, `leader:…`)
    /// are refused. The first one stays. Before the service starts that is a reason not to start; later it is logged as an
    /// error.
    #[allow(clippy::needless_pass_by_value, reason = "options are built in the call")]
    pub fn check_with(&self, name: impl Into<Arc<str>>, options: CheckOptions, check: impl Check) {
        let (name, plan) = (name.into(), options.plan(&self.0.config));
        if is_own(&name) {
            return self.refuse(&name, BUILT_IN);
        }
        if !self.update(|board, now| board.schedule(&name, options.criticality, options.initial, plan, now)) {
            return self.refuse(&name, TWICE);
        }
        lock(&self.0.pending).push(Job { name, plan, check: Arc::new(check) });
        self.0.added.notify_one();
    }

    /// Adds a check whose status somebody reports; unknown until the first report. Several reporters of one name share it,
    /// and it is critical when one of them says so.
    ///
    /// The name of a scheduled or a built-in check is refused, as [`check_with`](Self::check_with) says: nothing that this
    /// reporter reports is shown then.
    pub fn reporter(&self, name: impl Into<Arc<str>>, criticality: Criticality) -> Reporter {
        let name = name.into();
        if is_own(&name) {
            self.refuse(&name, BUILT_IN);
            return Reporter { registry: Self::default(), name };
        }
        self.own_reporter(name, criticality)
    }

    /// As [`reporter`](Self::reporter), for the checks of the chassis itself.
    pub(crate) fn own_reporter(&self, name: impl Into<Arc<str>>, criticality: Criticality) -> Reporter {
        let name = name.into();
        if !self.update(|board, now| board.expect_reports(&name, criticality, now)) {
            self.refuse(&name, TWICE);
        }
        Reporter { registry: self.clone(), name }
    }

    /// Reports a check's status by name. A check not known before is added, as not critical. The name of a scheduled or a
    /// built-in check is refused, as [`check_with`](Self::check_with) says.
    pub fn set(&self, name: &str, status: Status, message: impl Into<String>) {
        let message = Some(message.into()).filter(|text| !text.is_empty());
        let name: Arc<str> = name.into();
        if is_own(&name) {
            return self.refuse(&name, BUILT_IN);
        }
        self.report_until(&name, status, message, None);
    }

    /// The names that were refused so far, and why. Those refused later are logged.
    pub(crate) fn refusals(&self) -> Vec<(Arc<str>, &'static str)> {
        let mut refused = lock(&self.0.refused);
        refused.taken = true;
        refused.by_name.iter().map(|(name, why)| (name.clone(), *why)).collect()
    }

    fn refuse(&self, name: &Arc<str>, why: &'static str) {
        let new_and_late = {
            let mut refused = lock(&self.0.refused);
            refused.by_name.insert(name.clone(), why).is_none() && refused.taken
        };
        if new_and_late {
            tracing::error!(check = %name, "health check refused: {why}");
        }
    }

    /// Counts a panic: the `panics` check is degraded until `health.panic_window` has passed without another.
    pub fn record_panic(&self) {
        self.0.panics.fetch_add(1, Relaxed);
        self.report_panics();
    }

    /// How many panics were counted since start.
    #[must_use]
    pub fn panics(&self) -> u64 {
        let followed = self.0.followed.get().map_or(0, |followed| followed.seen.load(Relaxed));
        self.0.panics.load(Relaxed).max(followed)
    }

    /// Follows a count of all panics of the process, from now on: those of spawned tasks, callbacks and threads degrade the
    /// `panics` check too. The count is looked at once a second while the checks run.
    pub(crate) fn follow_panics(&self, total: impl Fn() -> u64 + Send + Sync + 'static) {
        let before = total();
        let _ = self.0.followed.set(Followed { total: Box::new(total), before, seen: AtomicU64::new(0) });
    }

    /// Follows the count of requests and of those that failed by the service's own doing, for the check `responses`.
    pub(crate) fn follow_answers(&self, total: impl Fn() -> Answers + Send + Sync + 'static) {
        let _ = self.0.answers.set(Box::new(total));
    }

    /// The count of requests; `None` before it is followed.
    pub(crate) fn answers(&self) -> Option<Answers> {
        self.0.answers.get().map(|total| total())
    }

    /// Looks at the followed count.
    pub(crate) fn look_for_panics(&self) {
        let Some(followed) = self.0.followed.get() else { return };
        let now = (followed.total)().saturating_sub(followed.before);
        if followed.seen.swap(now, Relaxed) < now {
            self.report_panics();
        }
    }

    fn report_panics(&self) {
        let count = self.panics();
        let window = self.0.config.panic_window;
        let message = format!("panics since start: {count}, the last within {window}; the log has each");
        self.report_until(&PANICS.into(), Status::Degraded, Some(message), Some(window.get()));
    }

    /// The worst lateness of the event loop in the last half minute; zero before the scheduler runs.
    #[must_use]
    pub fn event_loop_lag(&self) -> Duration {
        Duration::from_nanos(self.0.lag_nanos.load(Relaxed))
    }

    /// Names a gRPC service that serves whenever the instance is ready.
    pub fn register_grpc_service(&self, name: impl Into<Arc<str>>) {
        self.update(|board, _| board.register_service(name.into(), None));
    }

    /// Names a gRPC service that serves when these checks are up or degraded, whatever the others say; never before start-up
    /// has ended, nor while draining. A check that nobody added counts as unknown.
    pub fn register_grpc_service_on<S: Into<String>>(
        &self,
        name: impl Into<Arc<str>>,
        checks: impl IntoIterator<Item = S>,
    ) {
        let needs = checks.into_iter().map(Into::into).collect();
        self.update(|board, _| board.register_service(name.into(), Some(needs)));
    }

    /// Whether the process runs. It is always `true`: a process that cannot serve this question cannot answer it either.
    #[must_use]
    pub fn is_live(&self) -> bool {
        true
    }

    /// Whether start-up has ended, after every scheduled check had run once.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.summary().started
    }

    /// Whether traffic may come: started, not draining, and every critical check up or degraded.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.summary().ready
    }

    /// The instance in a few words.
    #[must_use]
    pub fn summary(&self) -> Summary {
        *self.0.summary.borrow()
    }

    /// Follows the summary. It changes only when one of its fields does; do not hold its borrow while you call the registry.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Summary> {
        self.0.summary.subscribe()
    }

    /// The whole picture.
    #[must_use]
    pub fn report(&self) -> Report {
        self.update(|board, now| board.full_report(now))
    }

    /// Says that start-up has ended: the instance is started as soon as every scheduled check has run once.
    pub fn mark_started(&self) {
        self.update(|board, _| board.end_start_up());
    }

    /// Says that the instance is stopping: not ready, and no gRPC service serves. Cannot be taken back.
    pub fn set_draining(&self) {
        self.update(|board, _| board.drain());
    }

    /// Waits until every scheduled check has run once, with whatever result. Needs [`Registry::run`] to be running.
    pub async fn first_run(&self) {
        // An error would mean that the sender is gone, and the registry holds it.
        let _ = self.subscribe().wait_for(|summary| summary.checked).await;
    }

    /// Runs the scheduled checks, also those added later, and the built-in `event_loop` check, until `stop` is cancelled or
    /// the future is dropped; then no check is left running. To be run once, in a task of its own.
    pub fn run(&self, stop: CancellationToken) -> impl Future<Output = ()> + Send + use<> {
        scheduler::run(self.clone(), stop)
    }

    pub(crate) fn config(&self) -> &HealthConfig {
        &self.0.config
    }

    pub(crate) fn serving(&self) -> watch::Receiver<Arc<Services>> {
        self.0.serving.subscribe()
    }

    pub(crate) fn take_pending(&self) -> Vec<Job> {
        std::mem::take(&mut *lock(&self.0.pending))
    }

    /// Waits for a check to be added.
    pub(crate) async fn added(&self) {
        self.0.added.notified().await;
    }

    /// Takes in the result of a run.
    pub(crate) fn record(&self, job: &Job, outcome: Outcome, took: Duration) {
        self.update(|board, now| board.record(&job.name, outcome, took, now));
    }

    /// Lets time do its work on what is known.
    pub(crate) fn settle(&self) {
        self.update(Board::settle);
    }

    pub(crate) fn set_event_loop_lag(&self, lag: Duration) {
        self.0.lag_nanos.store(u64::try_from(lag.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    fn report_until(&self, name: &Arc<str>, status: Status, message: Option<String>, clears_in: Option<Duration>) {
        let until = |now: Instant| clears_in.map(|window| now + window);
        if !self.update(|board, now| board.report(name, status, message, until(now), now)) {
            self.refuse(name, TWICE);
        }
    }

    /// The one way to change the board: what follows from a change is published before the next change can begin, so that
    /// subscribers never see an older truth after a newer one. Lines are logged when the lock is free again.
    fn update<R>(&self, act: impl FnOnce(&mut Board, Instant) -> R) -> R {
        let (result, turned, changes) = {
            let mut board = lock(&self.0.board);
            let result = act(&mut board, now());
            let turned = self.publish(&mut board);
            (result, turned, board.take_changes())
        };
        changes.iter().for_each(tell);
        match turned {
            Some(true) => tracing::info!("ready"),
            Some(false) => tracing::info!("not ready"),
            None => {}
        }
        result
    }

    /// Publishes what has changed; gives the readiness when it has.
    fn publish(&self, board: &mut Board) -> Option<bool> {
        let summary = board.summary();
        let mut turned = None;
        self.0.summary.send_if_modified(|current| {
            turned = (current.ready != summary.ready).then_some(summary.ready);
            let changed = *current != summary;
            *current = summary;
            changed
        });
        let serving = board.serving();
        self.0.serving.send_if_modified(|current| {
            let changed = **current != serving;
            if changed {
                *current = Arc::new(serving);
            }
            changed
        });
        turned
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new(HealthConfig::default())
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("summary", &self.summary()).finish_non_exhaustive()
    }
}

/// Reports one check's status. Cheap to clone. A report holds until the next one.
#[derive(Debug, Clone)]
pub struct Reporter {
    registry: Registry,
    name: Arc<str>,
}

impl Reporter {
    /// It works.
    pub fn up(&self) {
        self.registry.report_until(&self.name, Status::Up, None, None);
    }

    /// It works, and there is something to say.
    pub fn up_with(&self, message: impl Into<String>) {
        self.registry.report_until(&self.name, Status::Up, Some(message.into()), None);
    }

    /// It works, but somebody should look.
    pub fn degraded(&self, message: impl Into<String>) {
        self.registry.report_until(&self.name, Status::Degraded, Some(message.into()), None);
    }

    /// It works, but somebody should look; up again by itself when the time has passed without another report.
    pub fn degraded_for(&self, time: Duration, message: impl Into<String>) {
        self.registry.report_until(&self.name, Status::Degraded, Some(message.into()), Some(time));
    }

    /// It does not work.
    pub fn down(&self, message: impl Into<String>) {
        self.registry.report_until(&self.name, Status::Down, Some(message.into()), None);
    }
}

fn tell(change: &Change) {
    let Change { check, from, to, message } = change;
    let reason = message.as_deref();
    match to {
        Status::Up => tracing::info!(%check, %from, %to, reason, "health check changed"),
        _ => tracing::warn!(%check, %from, %to, reason, "health check changed"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watch_changes_only_when_the_summary_does() {
        let registry = Registry::default();
        let reporter = registry.own_reporter("config", Criticality::NotCritical);
        reporter.up();
        registry.mark_started();
        let mut watch = registry.subscribe();
        watch.mark_unchanged();
        reporter.up();
        registry.set("cache", Status::Up, "");
        registry.settle();
        assert!(!watch.has_changed().expect("the registry lives"));
        reporter.degraded("bad reload");
        assert!(watch.has_changed().expect("the registry lives"));
        let summary = *watch.borrow_and_update();
        assert_eq!((summary.status, summary.ready), (Status::Degraded, true));
        reporter.degraded("still bad");
        assert!(!watch.has_changed().expect("the registry lives"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_degrades_for_the_window_after_the_last_one() {
        let registry = Registry::default();
        registry.mark_started();
        let minute = Duration::from_secs(60);
        for _ in 0..2 {
            registry.record_panic();
            tokio::time::advance(4 * minute).await;
            registry.settle();
            assert_eq!(registry.summary().status, Status::Degraded);
        }
        assert!(registry.is_ready());
        assert!(
            registry.report().checks[PANICS].message.as_deref().is_some_and(|m| m.starts_with("panics since start: 2"))
        );
        tokio::time::advance(minute).await;
        registry.settle();
        assert_eq!((registry.summary().status, registry.panics()), (Status::Up, 2));
    }

    #[test]
    fn a_panic_outside_of_requests_degrades() {
        let registry = Registry::default();
        registry.mark_started();
        let total = Arc::new(AtomicU64::new(7));
        let followed = total.clone();
        registry.follow_panics(move || followed.load(Relaxed));
        registry.look_for_panics();
        assert_eq!((registry.summary().status, registry.panics()), (Status::Up, 0), "what was before does not count");
        total.fetch_add(1, Relaxed);
        registry.look_for_panics();
        assert_eq!((registry.summary().status, registry.panics()), (Status::Degraded, 1));
        // A request's panic is in the followed count, too, and counts once.
        registry.record_panic();
        assert_eq!(registry.panics(), 1);
    }

    #[test]
    fn names_of_built_in_checks_are_refused() {
        let registry = Registry::default();
        let up = || async { Ok::<_, super::super::CheckError>(()) };
        for name in ["panics", "event_loop", "client:stock", "background:sweep"] {
            registry.check(name, up);
        }
        registry.reporter("config", Criticality::Critical).down("mine");
        registry.set("leader:billing", Status::Down, "mine");
        let refused: Vec<_> = registry.refusals().into_iter().map(|(name, _)| name.to_string()).collect();
        let all = ["background:sweep", "client:stock", "config", "event_loop", "leader:billing", "panics"];
        assert_eq!(refused, all);
        assert_eq!(registry.report().checks.keys().collect::<Vec<_>>(), ["panics"]);
    }

    #[test]
    fn readiness_ends_with_draining_and_liveness_does_not() {
        let registry = Registry::default();
        assert!(!registry.is_ready() && registry.is_live());
        registry.mark_started();
        assert!(registry.is_ready());
        registry.set_draining();
        assert!(!registry.is_ready() && registry.is_live() && registry.is_started());
    }

    #[test]
    fn liveness_never_looks_at_a_check() {
        let registry = Registry::default();
        registry.reporter("db", Criticality::Critical).down("refused");
        registry.mark_started();
        assert!(registry.is_live() && !registry.is_ready());
    }
}
