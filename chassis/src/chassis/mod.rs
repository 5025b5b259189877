//! From `main` to exit: the life of a service.
//!
//! Start: signals, configuration, runtime, telemetry, the service's own `main`; then in [`Chassis::serve`] the checks' first
//! run, the listeners, ready. Stop: not ready, drain delay, no new work, grace, background tasks, hooks, flush.

mod clients;
mod hosts;
mod lead;
mod mount;
mod own;
mod process;
mod reload;
mod remote;
mod serve;

use std::{
    collections::BTreeSet,
    fmt,
    pin::Pin,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::Duration,
};

use axum::Router;
use opentelemetry::{KeyValue, metrics::Meter};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;

pub(crate) use clients::Destinations;
pub use hosts::HostClients;
use lead::Leaders;
pub use process::{ended, main};
pub(crate) use reload::{Purpose, load};
pub(crate) use remote::{Need, fetch, section};

use crate::{
    cli::{self, Command},
    coherence::{self, Conflict, GrpcSource},
    config::{Loaded, Sources},
    consul::kv::Kv,
    discovery::{Progress, ProgressState},
    error::{Error, Result},
    health::{Check, CheckOptions, Registry},
    identity::{BuildInfo, Identity},
    observe::FailureObserver,
    problem,
    server::{BoundAddress, descriptors},
    service::{GrpcRoutes as Rpcs, RouteInfo},
    settings::{NoSettings, ServiceConfig, Settings},
    shutdown::{PhaseOwner, Shutdown},
    stack::OwnLayer,
    tasks::{Policy, Tasks},
    telemetry::{
        Telemetry,
        log::{self, LineSink},
        names,
        names::attribute,
        otlp::OtlpSettings,
    },
};

type Hook = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// What outlives the builder.
struct Core {
    identity: Identity,
    telemetry: Arc<Telemetry>,
    health: Registry,
    leaders: Leaders,
    tasks: Tasks,
    reload: Arc<Notify>,
    serving: AtomicBool,
    /// Whether to stop, and then whether to skip the drain delay.
    stop: watch::Sender<Option<bool>>,
    phase: PhaseOwner,
    shutdown: Shutdown,
    bound: watch::Sender<Listening>,
    destinations: clients::Destinations,
    /// How the registration goes, once there is one.
    registration: Arc<OnceLock<watch::Receiver<Progress>>>,
}

/// Whether the service listens, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Listening {
    NotYet,
    At(Bound),
    Ended,
}

/// Where a running service listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The main port.
    pub http: BoundAddress,
    /// The operators' port, unless it is turned off.
    pub admin: Option<BoundAddress>,
}

/// A service in the making: settings in, handlers in, then [`serve`](Chassis::serve).
///
/// `S` is the type of the service's own settings, the section `[app]` of the configuration.
///
/// ```no_run
/// use chassis::{Chassis, tasks::Restart};
///
/// # struct Store;
/// # impl Store {
/// #     async fn ping(&self) -> std::io::Result<()> { Ok(()) }
/// #     async fn sweep(&self) -> std::io::Result<()> { Ok(()) }
/// #     async fn close(&self) {}
/// # }
/// #[chassis::main]
/// async fn main(chassis: Chassis) -> chassis::Result<()> {
///     let store: &'static Store = Box::leak(Box::new(Store));
///     chassis
///         .mount(axum::Router::new().route("/hello", axum::routing::get(|| async { "hello" })))
///         .check("store", || store.ping())
///         .background("sweep", Restart::OnFailure, |_stop| store.sweep())
///         .on_shutdown("store", || store.close())
///         .serve()
///         .await
/// }
/// ```
pub struct Chassis<S = NoSettings> {
    core: Arc<Core>,
    app: Arc<S>,
    app_in_effect: watch::Sender<Arc<S>>,
    settings: Loaded<Settings>,
    settings_in_effect: watch::Sender<Loaded<Settings>>,
    sources: Sources,
    /// Settings that are followed in Consul.
    pub(crate) kv: Option<Kv>,
    router: Router,
    /// Whose default fallback the router has.
    fallback: mount::FallbackOf,
    /// Layers of the service's own around everything but the observer, innermost first.
    layers: Vec<OwnLayer>,
    routes: Vec<RouteInfo>,
    grpc: Option<RoutesBuilder>,
    /// The rpcs of mounted services.
    rpcs: Vec<Rpcs>,
    grpc_names: Vec<&'static str>,
    /// The same by where they come from, once for each time that one was added.
    grpc_sources: Vec<(&'static str, GrpcSource)>,
    /// What was found out while the parts came in.
    conflicts: Vec<Conflict>,
    background_names: BTreeSet<&'static str>,
    observers: Vec<Arc<dyn FailureObserver>>,
    descriptors: Vec<&'static [u8]>,
    hooks: Vec<(String, Hook)>,
    command: Command,
    ready_file: Option<std::path::PathBuf>,
    /// What serves the main port, when the chassis does not.
    own_server: Option<own::OwnServer>,
}

impl<S> Chassis<S>
where
    S: DeserializeOwned + JsonSchema + Send + Sync + 'static,
{
    /// A service for those who own their `main`: call it inside a tokio runtime, with [`Sources::of_process`] for example.
    ///
    /// [`run`](Chassis::run) then serves, obeys signals and flushes; [`run_until`](Chassis::run_until) leaves the signals to
    /// you, [`serve`](Chassis::serve) the flush as well. The command line is not read. Files, the `CHASSIS_` variables and
    /// those of the ecosystem (`RUST_LOG`, `OTEL_…`) count as they do in `#[chassis::main]`, as far as `sources` has them;
    /// what is configured otherwise goes into [`Sources::set`], above them all.
    ///
    /// A `tracing` subscriber that is installed before stays, and so does the `main` of the process: see
    /// [`telemetry::tracing_layer`](crate::telemetry::tracing_layer). One that is installed behind this call is refused by
    /// `tracing`, which makes `tracing_subscriber`'s `init` panic. The providers of metrics and traces become
    /// OpenTelemetry's global ones; whoever keeps providers of his own sets them behind this call.
    ///
    /// ```no_run
    /// use chassis::{Chassis, config::Sources};
    ///
    /// #[tokio::main]
    /// async fn main() -> chassis::Result<()> {
    ///     let mut sources = Sources::of_process();
    ///     if let Ok(port) = std::env::var("PORT") {
    ///         sources.set.push(format!("http.address=127.0.0.1:{port}"));
    ///     }
    ///     let chassis: Chassis = Chassis::new(chassis::build_info!(), sources)?;
    ///     chassis.mount(axum::Router::new()).run().await
    /// }
    /// ```
    ///
    /// # Errors
    /// Exit code 78 with every mistake of the configuration at once. That `consul.kv.enabled` is set is one of them: this
    /// function waits for nobody, so it cannot read settings from Consul; [`Chassis::with_remote_settings`] does.
    pub fn new(build: BuildInfo, sources: Sources) -> Result<Self> {
        let sources = cli::with_standard_variables(sources);
        tokio::runtime::Handle::try_current()
            .map_err(|error| Error::internal("Chassis::new must run inside a tokio runtime").caused_by(error))?;
        let loaded = load::<S>(&sources, Purpose::Serve)?;
        if loaded.0.value().consul.kv.enabled {
            return Err(Error::config(
                "consul.kv.enabled: found true, but Chassis::new cannot wait for Consul; call \
                 Chassis::with_remote_settings(build, sources).await in main, or set consul.kv.enabled = false",
            ));
        }
        Self::build(build, sources, loaded, None, Purpose::Serve)
    }

    /// As [`Chassis::new`], and reads the settings in Consul's key-value store when `consul.kv.enabled` is set; they are
    /// followed while the service runs. `#[chassis::main]` does this by itself.
    ///
    /// # Errors
    /// Exit code 78 with every mistake of the configuration at once; 69 when `consul.kv.required` is set and Consul does not
    /// answer within `consul.kv.wait`.
    pub async fn with_remote_settings(build: BuildInfo, sources: Sources) -> Result<Self> {
        let (sources, kv) = fetch(&build, cli::with_standard_variables(sources), Need::AsConfigured).await?;
        let loaded = load::<S>(&sources, Purpose::Serve)?;
        let mut chassis = Self::build(build, sources, loaded, None, Purpose::Serve)?;
        chassis.kv = kv;
        Ok(chassis)
    }

    /// `output` takes the place of standard output. What is only listed opens no file of an audit log.
    pub(crate) fn build(
        build: BuildInfo,
        sources: Sources,
        (settings, otlp): (Loaded<Settings>, OtlpSettings),
        output: Option<LineSink>,
        purpose: Purpose,
    ) -> Result<Self> {
        let app = Arc::new(settings.section::<S>("app").map_err(|errors| Error::config(errors.to_string()))?);
        let config = settings.value();
        let identity = identify(&build, &sources.profile, &otlp, &config.service);
        let mut log = config.log.clone();
        if purpose == Purpose::List {
            log.audit.file = None;
        }
        problem::set_domain(&identity.service);
        let in_tests = output.is_some();
        let telemetry = Arc::new(Telemetry::start(&config.telemetry, &log, &otlp, &identity, output)?);
        descriptors::raise();
        let health = Registry::new(config.health.clone());
        // Services under test share their process, and so its panics; those of its own callbacks are known.
        if in_tests {
            health.follow_panics(telemetry.metrics.callback_panics());
        } else {
            health.follow_panics(log::panics);
        }
        let (phase, shutdown) = PhaseOwner::new();
        let core = Arc::new(Core {
            identity,
            tasks: Tasks::new(health.clone()),
            health,
            leaders: Leaders::default(),
            telemetry,
            reload: Arc::default(),
            serving: AtomicBool::new(false),
            stop: watch::Sender::new(None),
            phase,
            shutdown,
            bound: watch::Sender::new(Listening::NotYet),
            destinations: clients::Destinations::default(),
            registration: Arc::default(),
        });
        core.observe();
        core.observe_leaders();
        for note in settings.notes() {
            tracing::info!("{note}");
        }
        Ok(Self {
            core,
            app_in_effect: watch::Sender::new(app.clone()),
            app,
            settings_in_effect: watch::Sender::new(settings.clone()),
            settings,
            sources: sources.unpinned(),
            kv: None,
            router: Router::new(),
            fallback: mount::FallbackOf::Chassis,
            layers: Vec::new(),
            routes: Vec::new(),
            grpc: None,
            rpcs: Vec::new(),
            grpc_names: Vec::new(),
            grpc_sources: Vec::new(),
            conflicts: Vec::new(),
            background_names: BTreeSet::new(),
            observers: Vec::new(),
            descriptors: Vec::new(),
            hooks: Vec::new(),
            command: Command::Serve,
            ready_file: None,
            own_server: None,
        })
    }

    /// The service's own settings, the section `[app]`, as they were at start.
    #[must_use]
    pub fn settings(&self) -> &Arc<S> {
        &self.app
    }

    /// The service's own settings as they change: keys marked `x-reloadable` follow the files while the service runs.
    #[must_use]
    pub fn settings_watch(&self) -> watch::Receiver<Arc<S>> {
        self.app_in_effect.subscribe()
    }

    /// The chassis's own settings, as they were at start.
    #[must_use]
    pub fn config(&self) -> &Arc<Settings> {
        self.settings.value()
    }

    /// Who this instance is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.core.identity
    }

    /// The one registry of health, to add checks to or to report to.
    #[must_use]
    pub fn health(&self) -> &Registry {
        &self.core.health
    }

    /// A meter for the service's own instruments.
    #[must_use]
    pub fn meter(&self, name: &'static str) -> Meter {
        self.core.telemetry.metrics.meter(name)
    }

    /// A handle on the running service: its addresses, and the way to stop it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(self.core.clone())
    }

    /// Tells this of each request that is turned away or fails, at its end; see [`FailureObserver`]. Several may be added.
    #[must_use]
    pub fn observer(mut self, observer: impl FailureObserver) -> Self {
        self.observers.push(Arc::new(observer));
        self
    }

    /// Answers gRPC reflection for these services: the encoded `FileDescriptorSet` that the build of the stubs writes.
    #[must_use]
    pub fn grpc_reflection(mut self, file_descriptor_set: &'static [u8]) -> Self {
        self.descriptors.push(file_descriptor_set);
        self
    }

    /// Adds a critical health check: the service is ready only while it succeeds. Two checks of one name are a reason not to
    /// start, as two routes of one path are.
    ///
    /// Other criticality, intervals and thresholds: [`Chassis::check_with`].
    #[must_use]
    pub fn check(self, name: &'static str, check: impl Check) -> Self {
        self.core.health.check(name, check);
        self
    }

    /// Adds a health check with its own options.
    #[must_use]
    pub fn check_with(self, name: &'static str, options: CheckOptions, check: impl Check) -> Self {
        self.core.health.check_with(name, options, check);
        self
    }

    /// Starts a supervised background task; see [`Tasks::spawn`]. Two tasks of one name are a reason not to start.
    #[must_use]
    pub fn background<M, F, E>(mut self, name: &'static str, policy: impl Into<Policy>, make: M) -> Self
    where
        M: FnMut(CancellationToken) -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        if !self.background_names.insert(name) {
            let message = "two background tasks of this name were added; they would share one health check and one \
                           series of each metric: give one of them another name";
            self.conflicts.push(Conflict::new(format!("background task {name}"), message));
        } else if coherence::is_own_task(name) {
            let message = "the chassis has a background task of this name itself; choose another name";
            self.conflicts.push(Conflict::new(format!("background task {name}"), message));
        } else if self.command == Command::Serve {
            self.core.tasks.spawn(name, policy, make);
        }
        self
    }

    /// Runs at the end of a stop, after requests and background tasks, last added first: to close a pool, for example.
    #[must_use]
    pub fn on_shutdown<F>(mut self, name: impl Into<String>, hook: impl FnOnce() -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.hooks.push((name.into(), Box::new(move || Box::pin(hook()))));
        self
    }
}

/// Who this instance is, by its build, its environment and its settings.
fn identify(build: &BuildInfo, profile: &str, otlp: &OtlpSettings, service: &ServiceConfig) -> Identity {
    let mut identity = otlp.resource.identify(Identity {
        service: build.name.to_owned(),
        version: build.version.to_owned(),
        instance_id: format!("{:032x}", fastrand::u128(..)),
        environment: profile.to_owned(),
        build: *build,
    });
    // `OTEL_SERVICE_NAME` is one of the configuration's own sources: what `config print` shows is the name.
    if let Some(name) = &service.name {
        identity.service.clone_from(name);
    }
    if let Some(id) = &service.instance_id {
        identity.instance_id.clone_from(id);
    }
    identity
}

impl Core {
    /// Begins the stop; `at_once` skips the drain delay.
    fn stop(&self, at_once: bool) {
        self.stop.send_modify(|stop| *stop = (*stop).max(Some(at_once)));
    }

    /// Shows how the registration goes in the metrics from now on.
    fn observe_registration(&self, progress: watch::Receiver<Progress>) {
        let _ = self.registration.set(progress);
    }

    /// Shows the state of health and tasks in the metrics.
    fn observe(&self) {
        let metrics = &self.telemetry.metrics;
        metrics.observe_runtime(&tokio::runtime::Handle::current());
        let health = self.health.clone();
        metrics.observe_health(move || {
            health.report().checks.into_iter().map(|(name, check)| (name, check.status.as_str())).collect()
        });
        let progress = self.registration.clone();
        metrics.observe_gauge(&names::REGISTRATION_REGISTERED, move || {
            let registered = progress.get().is_some_and(|now| now.borrow().state == ProgressState::Registered);
            vec![(vec![], f64::from(registered))]
        });
        let progress = self.registration.clone();
        metrics.observe_counter(&names::REGISTRATION_CALLS, move || {
            let (succeeded, failed) = progress.get().map_or((0, 0), |now| {
                let now = now.borrow();
                (now.succeeded, now.failed)
            });
            let outcome = |outcome| vec![KeyValue::new(attribute::OUTCOME, outcome)];
            vec![(outcome("succeeded"), succeeded), (outcome("failed"), failed)]
        });
        let tasks = self.tasks.clone();
        metrics.observe_counter(&names::BACKGROUND_RESTARTS, move || {
            let stats = tasks.stats();
            stats
                .iter()
                .map(|task| (vec![KeyValue::new(attribute::TASK, task.name().to_owned())], task.restarts()))
                .collect()
        });
        metrics.observe_counter(&names::PANICS, || vec![(vec![], log::panics())]);
        let destinations = self.destinations.clone();
        metrics.observe_clients(move || destinations.levels());
    }
}

/// A running service, from outside: where it listens, and how to end it. Cheap to clone.
#[derive(Clone)]
pub struct Handle(Arc<Core>);

impl Handle {
    /// Waits until the service listens, and says where. `None` when it ended before.
    pub async fn bound(&self) -> Option<Bound> {
        let mut bound = self.0.bound.subscribe();
        let listening = bound.wait_for(|listening| *listening != Listening::NotYet).await.ok()?;
        match &*listening {
            Listening::At(bound) => Some(bound.clone()),
            Listening::NotYet | Listening::Ended => None,
        }
    }

    /// Begins the stop, as SIGTERM does; `at_once` skips the drain delay.
    pub fn stop(&self, at_once: bool) {
        self.0.stop(at_once);
    }

    /// Reads the configuration again, as SIGHUP does.
    pub fn reload(&self) {
        self.0.reload.notify_one();
    }

    /// The phase of the stop, to be watched.
    #[must_use]
    pub fn shutdown(&self) -> Shutdown {
        self.0.shutdown.clone()
    }

    /// Sends what is gathered and writes what is logged, within `timeout`. `#[chassis::main]` does this by itself.
    pub async fn flush(&self, timeout: Duration) {
        self.0.telemetry.clone().shutdown(timeout).await;
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("phase", &self.0.shutdown.phase()).finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for Chassis<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chassis").field("identity", &self.core.identity).finish_non_exhaustive()
    }
}
