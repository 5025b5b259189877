//! From ready to stopped: listeners up, then the orderly stop.

mod announce;

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use std::sync::{Arc, atomic::Ordering};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Bound, Chassis, Core, Listening, Purpose, own::OwnServer, reload::apply_reloads};
use crate::{
    cli::{self, Command},
    coherence::{self, Conflict, Facts, GrpcSource},
    config::{Loaded, Sources, Watcher},
    consul::{CheckKind, Consul, ConsulRegistrar, agent, kv::Kv},
    discovery::{
        Memory, ProgressState, Registrar, RegistryKind,
        registration::{self, Host, LEAVE, Loopback, Registering},
    },
    error::{BoxError, Error, Result},
    health::{self, Criticality},
    openapi,
    route::{Policies, state::Bulkhead},
    server::{
        BoundAddress, HttpConfig, Listener, ReadyFile, Server, Spare, admin, descriptors,
        handed::{self, Handed},
    },
    service::descriptors::{GapKind, gaps},
    settings::{DEV_PROFILE, Settings},
    shutdown::{Phase, PhaseOwner},
    stack,
    tasks::Restart,
    telemetry::log,
};

/// How long the last steps may take when the grace period has been used up.
const LAST_STEPS: std::time::Duration = std::time::Duration::from_secs(1);

/// What the chassis answers itself on the main port, with GET.
const OWN_ROUTES: [&str; 3] = ["/livez", "/readyz", "/startupz"];

/// How long the steps of a stop may take that no setting names: the cut, the admin port, and each shutdown hook.
pub(super) fn last_steps(hooks: usize) -> std::time::Duration {
    LAST_STEPS.saturating_mul(u32::try_from(hooks).unwrap_or(u32::MAX).saturating_add(2))
}

/// Who serves the main port.
enum MainPort {
    Chassis(Listener),
    Own(OwnServer),
}

impl MainPort {
    fn address(&self) -> Result<BoundAddress> {
        match self {
            Self::Chassis(listener) => Ok(listener.address()?),
            Self::Own(server) => Ok(BoundAddress::Tcp(server.address)),
        }
    }
}

/// The socket that was handed over, or one of this process's own.
async fn listener(socket: Option<Handed>, address: &str, key: &str) -> Result<Listener> {
    let Some(socket) = socket else { return Listener::bind(address, key).await };
    let listener = Listener::handed_over(socket, key)?;
    tracing::info!(key, listens = %listener.address()?, "listening on a socket that was handed over (LISTEN_FDS)");
    Ok(listener)
}

type Listeners = (MainPort, Option<Listener>, Bound);

async fn listen(settings: &Loaded<Settings>, sources: &Sources, own: Option<OwnServer>) -> Result<Listeners> {
    let config = settings.value();
    let [main_socket, admin_socket] = handed::take(sources)?;
    let http = match own {
        Some(server) => {
            server.tell_of_other_address(settings);
            MainPort::Own(server)
        }
        None => MainPort::Chassis(listener(main_socket, &config.http.address, "http.address").await?),
    };
    let admin = match config.admin.enabled {
        true => Some(listener(admin_socket, &config.admin.address, "admin.address").await?),
        false => None,
    };
    let bound = Bound { http: http.address()?, admin: admin.as_ref().map(Listener::address).transpose()? };
    Ok((http, admin, bound))
}

/// How the server of the main port failed, if it did.
fn failure(ended: Result<Result<(), BoxError>, JoinError>) -> Option<BoxError> {
    ended.map_or_else(|panic| Some(panic.into()), Result::err)
}

/// Tells those who wait for the addresses when there will be none.
struct EndOfListening(Arc<Core>);

impl Drop for EndOfListening {
    fn drop(&mut self) {
        self.0.bound.send_replace(Listening::Ended);
    }
}

impl<S> Chassis<S>
where
    S: DeserializeOwned + JsonSchema + Send + Sync + 'static,
{
    /// Serves until a signal or [`Handle::stop`](super::Handle::stop) ends it, and then drains.
    ///
    /// # Errors
    /// Exit code 69 when an address is taken or may not be listened on, 78 when it is none. Exit code 78, too, with every
    /// conflict between the parts at once; what was begun, background tasks and shutdown hooks, ends in order then.
    pub async fn serve(mut self) -> Result<()> {
        // First of all: whoever waits for the addresses is told of every end.
        let _end_of_listening = EndOfListening(self.core.clone());
        let config = self.settings.value().clone();
        match &self.command {
            Command::Routes { json } => return cli::print_routes(&self.routes, &self.grpc_names, *json),
            Command::Layers { json } => return cli::print_layers(&config, &self.layers, *json),
            // A document of half the parts would look whole.
            Command::Openapi { check } => {
                return match coherence::refusal(&self.conflicts) {
                    Some(refusal) => Err(refusal),
                    None => cli::print_openapi(&self.openapi(), check.as_deref()),
                };
            }
            _ => {}
        }
        let streams_end = CancellationToken::new();
        let checked = self.check_coherence(&config);
        let routes = match checked.and_then(|()| self.all_routes(&streams_end)) {
            Ok(routes) => routes,
            Err(refusal) => {
                self.end_work(Instant::now() + LAST_STEPS).await;
                return Err(refusal);
            }
        };
        self.core.serving.store(true, Ordering::Release);
        let mut internal = JoinSet::new();
        let ended = CancellationToken::new();
        self.start_housekeeping(&mut internal, &ended);
        let core = self.core.clone();
        let mut stop = core.stop.subscribe();

        // A stop during the checks' first run need not wait for them.
        tokio::select! {
            () = core.health.first_run() => {}
            _ = stop.wait_for(Option::is_some) => {}
        }
        if stop.borrow().is_some() {
            // Nobody was served yet, so there is nobody to wait for.
            core.health.set_draining();
            self.end_work(Instant::now() + LAST_STEPS).await;
            return Ok(());
        }
        let (http, admin, bound) = match listen(&self.settings, &self.sources, self.own_server.take()).await {
            Ok(listening) => listening,
            Err(error) => {
                self.end_work(Instant::now() + LAST_STEPS).await;
                return Err(error);
            }
        };

        let registering = match self.registrar(&config, &bound) {
            Ok(registering) => registering,
            Err(refusal) => {
                self.end_work(Instant::now() + LAST_STEPS).await;
                return Err(refusal);
            }
        };

        let on_panic = core.health.clone();
        let policies = Arc::new(Policies::new(&self.routes));
        let shown = policies.clone();
        core.telemetry.metrics.observe_bulkheads(move || {
            let levels =
                |bulkhead: &Arc<Bulkhead>| (bulkhead.handler().to_owned(), bulkhead.in_use(), bulkhead.limit());
            shown.bulkheads().iter().map(levels).collect()
        });
        let observer = core.telemetry.observer().with_quiet(&health::PROBES);
        let observer = observer.with_traced_probes(config.telemetry.sampling.probes);
        let observer = observer.with_grpc(self.grpc_services()).with_failures(std::mem::take(&mut self.observers));
        let observer = Arc::new(observer.with_panics(move || on_panic.record_panic()));
        // Weak: the observer reports panics to the registry.
        let answering = Arc::downgrade(&observer);
        core.health
            .follow_answers(move || answering.upgrade().map_or_else(Default::default, |observer| observer.answers()));
        let layers = std::mem::take(&mut self.layers);
        let described_layers = stack::describe(&config.http, &layers, &config.clients);
        let service = stack::inbound(routes, &config.http, &observer, &policies, core.shutdown.clone(), layers);
        let connections = TaskTracker::new();
        let mut accepting = match http {
            MainPort::Chassis(listener) => {
                let counts = core.telemetry.metrics.connections("http");
                let (config, tasks) = (descriptors::reconcile(&config.http), connections.clone());
                let server = Server { listener, config, shutdown: core.shutdown.clone(), counts, tasks, spare: None };
                connections.spawn(async move {
                    server.run(service).await;
                    Ok(())
                })
            }
            MainPort::Own(server) => connections.spawn(server.run(stack::router(service), core.shutdown.clone())),
        };

        // The operators' port is the last to go: it shows how the stop is going.
        let (admin_phase, admin_shutdown) = PhaseOwner::new();
        let admin_connections = TaskTracker::new();
        if let Some(listener) = admin {
            let operator = admin::Operator {
                identity: core.identity.clone(),
                health: core.health.clone(),
                metrics: core.telemetry.metrics.clone(),
                log: core.telemetry.logs.control.clone(),
                settings: self.settings_in_effect.subscribe(),
                routes: self.routes.clone(),
                layers: described_layers,
                destinations: core.destinations.clone(),
                token: config.admin.token.clone(),
            };
            let server = Server {
                listener,
                config: HttpConfig { max_connections: admin::MAX_CONNECTIONS, ..config.http.clone() },
                shutdown: admin_shutdown,
                counts: core.telemetry.metrics.connections("admin"),
                tasks: admin_connections.clone(),
                spare: Some(Spare::new()),
            };
            admin_connections.spawn(server.run(admin::routes(operator)));
        }

        core.health.mark_started();
        let registering = registering.map(|(registrar, host)| {
            let port = config.discovery.port.or(bound.http.tcp().map(|address| address.port())).unwrap_or_default();
            let entry = registration::registration(&config.discovery, &core.identity, port, self.protocols());
            let registering = Registering::start(&core.tasks, registrar, host, entry, &core.health);
            core.observe_registration(registering.progress());
            registering
        });
        if let (Some(registering), RegistryKind::Memory) = (&registering, config.discovery.register) {
            // Takes no longer than a task takes to run, and whoever is told that the instance is ready may look there at once.
            let mut progress = registering.progress();
            tokio::select! {
                _ = progress.wait_for(|progress| !matches!(progress.state, ProgressState::Pending)) => {}
                _ = stop.wait_for(Option::is_some) => {}
            }
        }
        let ready_file = self.ready_file.take().map(|path| ReadyFile::write(path, &bound.http, bound.admin.as_ref()));
        // Whoever waits for a file that cannot be written would wait for ever: the stop begins at once.
        let (ready_file, unwritten) = match ready_file.transpose() {
            Ok(file) => (file, None),
            Err(error) => (None, Some(error)),
        };
        self.announce(&bound, &config);
        core.bound.send_replace(Listening::At(bound));

        let mut failed = match unwritten {
            Some(error) => Some(error),
            None => tokio::select! {
                _ = stop.wait_for(Option::is_some) => None,
                // It accepts until the stop; an earlier end leaves a service that looks alive and serves nobody.
                ended = &mut accepting => {
                    let cause = failure(ended).unwrap_or_else(|| "it ended by itself".into());
                    Some(Error::internal("the main port stopped accepting").caused_by(cause))
                }
            },
        };
        drop(ready_file);
        self.drain(&mut stop, registering, &connections, &streams_end).await;
        if failed.is_none() && accepting.is_finished() {
            let stopped = |cause| Error::internal("the main port's server failed while it stopped").caused_by(cause);
            failed = failure(accepting.await).map(stopped);
        }

        admin_phase.advance(Phase::Stopping);
        admin_phase.advance(Phase::Cutting);
        admin_connections.close();
        let _ = tokio::time::timeout(LAST_STEPS, admin_connections.wait()).await;
        ended.cancel();
        internal.shutdown().await;
        tracing::info!("stopped");
        failed.map_or(Ok(()), Err)
    }

    /// The stop, in order. Every step has its deadline.
    async fn drain(
        &mut self,
        stop: &mut watch::Receiver<Option<bool>>,
        registering: Option<Registering>,
        connections: &TaskTracker,
        streams_end: &CancellationToken,
    ) {
        let core = self.core.clone();
        // As they are now: both may have been changed since the start.
        let config = self.settings_in_effect.borrow().value().shutdown.clone();
        core.health.set_draining();
        core.phase.advance(Phase::Draining);
        // First of all: callers learn of it while the delay runs. Also when there is to be no delay.
        if let Some(registering) = registering {
            registering.leave().await;
        }
        let at_once = *stop.borrow() == Some(true);
        let delay = if at_once { Duration::ZERO } else { config.drain_delay.get() };
        tracing::info!(delay = %crate::config::Duration(delay), at_once, "draining: not ready, still serving");
        let began = Instant::now();
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            _ = stop.wait_for(|stop| *stop == Some(true)) => {
                if !at_once {
                    tracing::info!(waited = ?began.elapsed(), "the drain delay is cut short");
                }
            }
        }
        core.phase.advance(Phase::Stopping);
        streams_end.cancel();
        connections.close();
        let grace = config.grace.get();
        let deadline = Instant::now() + grace;
        if tokio::time::timeout_at(deadline.into(), connections.wait()).await.is_err() {
            tracing::warn!(connections = connections.len(), ?grace, "the grace period is over: cutting what is left");
        }
        core.phase.advance(Phase::Cutting);
        let last = Instant::now() + LAST_STEPS;
        let _ = tokio::time::timeout_at(last.into(), connections.wait()).await;
        self.end_work(deadline.max(last)).await;
    }

    /// Ends the background tasks, then runs the shutdown hooks, last added first.
    async fn end_work(&mut self, deadline: Instant) {
        self.core.tasks.shutdown(deadline).await;
        for (name, hook) in std::mem::take(&mut self.hooks).into_iter().rev() {
            let until = deadline.max(Instant::now() + LAST_STEPS);
            match tokio::time::timeout_at(until.into(), health::caught(hook)).await {
                Ok(Ok(())) => {}
                // The hooks after it close what is theirs.
                Ok(Err(panic)) => tracing::error!(hook = name, panic, "the shutdown hook panicked"),
                Err(_) => tracing::warn!(hook = name, "the shutdown hook did not end in time"),
            }
        }
    }

    /// Refuses parts that do not agree, all of them at once. Before anything runs, and before any port opens. What agrees
    /// stands beside the chassis's own routes from then on.
    fn check_coherence(&mut self, config: &Settings) -> Result<()> {
        let mut told = std::mem::take(&mut self.conflicts);
        let refused = self.core.health.refusals().into_iter();
        told.extend(refused.map(|(name, why)| Conflict::new(format!("health check {name}"), why)));
        // What is described is told by the rules; only of a plain router nothing else is known than what axum says.
        let described = self.routes.iter().any(|route| OWN_ROUTES.iter().any(|own| coherence::takes_own(route, own)));
        // What was mounted comes last: of two default fallbacks axum keeps that of the argument.
        match log::caught(|| self.own_routes().merge(self.router.clone())) {
            Ok(router) => self.router = router,
            Err(_) if described => {}
            Err(panic) => told.push(Conflict::new(
                "Chassis::mount",
                format!(
                    "a plain router stands where the chassis answers itself: {}; choose another path, or set \
                     openapi.enabled = false when it is that of the document or its page",
                    panic.message
                ),
            )),
        }
        for gap in gaps(&self.descriptors, &self.routes) {
            match gap.kind {
                // A tonic server of the same name answers the rest: streams, for one.
                GapKind::Unanswered if self.has_server_of(&gap.service) => {}
                // gRPC has a status for it, and a service may grow into its `.proto`.
                GapKind::Unanswered => tracing::warn!("{}: {}", gap.place, gap.message),
                GapKind::Unknown | GapKind::Untaken | GapKind::Unfed => {
                    told.push(Conflict::new(gap.place, gap.message));
                }
            }
        }
        told.extend(openapi::unsendable(&self.routes));
        told.extend(self.check_registration(config));
        let leave = if config.discovery.register == RegistryKind::None { Duration::ZERO } else { LEAVE };
        let facts = Facts {
            routes: &self.routes,
            grpc: &self.grpc_sources,
            own_routes: &OWN_ROUTES,
            own_grpc: self.own_grpc_services(),
            http: &config.http,
            shutdown: &config.shutdown,
            last_steps: last_steps(self.hooks.len()) + leave,
        };
        if let Some(refusal) = coherence::refusal(&coherence::check(&facts, &told)) {
            return Err(refusal);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        for warning in coherence::warnings(&self.routes, i64::try_from(now).unwrap_or(i64::MAX)) {
            tracing::warn!("{warning}");
        }
        Ok(())
    }

    /// What Consul would refuse, or what this service cannot answer to it.
    fn check_registration(&self, config: &Settings) -> Vec<Conflict> {
        if config.discovery.register != RegistryKind::Consul {
            return Vec::new();
        }
        let entry = registration::registration(&config.discovery, &self.core.identity, 0, self.protocols());
        let names = agent::check_names(&entry.service, &entry.metadata);
        let mut told: Vec<_> = names.into_iter().map(|(key, message)| Conflict::new(key, message)).collect();
        if config.consul.check.kind == CheckKind::Grpc && self.grpc_names.is_empty() {
            let message = "found grpc, and no gRPC service is served; expected ttl or http";
            told.push(Conflict::new("consul.check.kind", message));
        }
        told
    }

    /// Who registers this instance, and where others reach it. What the settings alone decide was told before.
    fn registrar(&self, config: &Settings, bound: &Bound) -> Result<Option<(Arc<dyn Registrar>, Host)>> {
        let (listens, discovery) = (bound.http.tcp(), &config.discovery);
        let refused = |(key, message): (String, String)| Error::config(format!("{key}: {message}"));
        let host = discovery.host.as_deref();
        match discovery.register {
            RegistryKind::None => Ok(None),
            RegistryKind::Consul => {
                let consul = Consul::new(&config.consul)?;
                let ip = listens.map(|address| address.ip());
                let dev = self.core.identity.environment == DEV_PROFILE;
                let loopback = if dev { Loopback::Suffices } else { Loopback::MustBeMeant };
                let at = registration::host(host, ip, consul.host(), loopback).map_err(refused)?;
                if listens.is_none() && discovery.port.is_none() {
                    return Err(refused(registration::no_port()));
                }
                if let (Host::Known(at), None, true) = (&at, host, ip.is_some_and(|ip| ip.is_loopback())) {
                    tracing::warn!(
                        host = at,
                        "registered at an address that this machine alone reaches; outside of the dev profile that is refused"
                    );
                }
                Ok(Some((Arc::new(ConsulRegistrar::new(consul, config.consul.check.clone())), at)))
            }
            RegistryKind::Memory => {
                // Only this process looks there, so loopback is as good as any.
                let bound = listens.map(|address| match address.ip() {
                    ip if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                    ip => ip,
                });
                let at = registration::host(host, bound, ("localhost", 0), Loopback::Suffices).map_err(refused)?;
                Ok(Some((Arc::new(Memory::process()), at)))
            }
        }
    }

    /// What the main port speaks, for callers that find this instance in a registry.
    fn protocols(&self) -> &'static [&'static str] {
        if self.grpc_names.is_empty() { &["http"] } else { &["http", "grpc"] }
    }

    /// Whether a tonic server of this name is there.
    fn has_server_of(&self, service: &str) -> bool {
        self.grpc_sources.iter().any(|(name, source)| *name == service && *source == GrpcSource::Server)
    }

    /// The document of the described routes. It bears the package's name and version, not those of the configuration.
    pub(super) fn openapi(&self) -> openapi::Document {
        let build = &self.core.identity.build;
        openapi::document(build.name, build.version, &self.routes)
    }

    /// What runs beside the requests: checks, the end of log overrides, the watch over the configuration.
    fn start_housekeeping(&mut self, internal: &mut JoinSet<()>, ended: &CancellationToken) {
        let core = self.core.clone();
        internal.spawn(core.health.run(ended.child_token()));
        internal.spawn(core.telemetry.logs.control.clone().expire());
        let sources = self.sources.clone();
        let remote = self.kv.as_ref().map(Kv::layers);
        let watcher = Watcher::new(self.settings.clone(), core.reload.clone(), move || {
            let mut sources: Sources = sources.clone();
            if let Some(remote) = &remote {
                sources.remote = remote.now();
            }
            super::reload::load_settings::<S>(&sources, Purpose::Serve)
        });
        if let Some(mut kv) = self.kv.take() {
            let reporter = core.health.own_reporter("consul_kv", Criticality::NotCritical);
            let reload = core.reload.clone();
            core.tasks.spawn("consul_kv", Restart::OnFailure, move |ended| {
                let follow = kv.follower().follow(reload.clone(), reporter.clone());
                async move {
                    tokio::select! {
                        biased;
                        () = ended.cancelled() => Ok(()),
                        followed = follow => followed.map(|never| match never {}),
                    }
                }
            });
        }
        let (values, status) = (watcher.values(), watcher.status());
        internal.spawn(watcher.watch(ended.clone().cancelled_owned()));
        internal.spawn(apply_reloads(
            core.clone(),
            values,
            status,
            self.settings_in_effect.clone(),
            self.app_in_effect.clone(),
        ));
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;

    use super::*;
    use crate::{config::Sources, error::Exit, identity::BuildInfo, settings::NoSettings};

    #[tokio::test]
    async fn no_document_is_printed_of_parts_that_could_not_be_put_together() {
        let build = BuildInfo { name: "torn", version: "0.0.0", git_commit: None, built_at: "unknown" };
        let plain = || Router::new().route("/same", axum::routing::get(|| async {}));
        let sources = Sources { dir: "no-such-folder".into(), ..Sources::default() };
        let mut chassis: Chassis = Chassis::new(build, sources).unwrap();
        chassis.command = Command::Openapi { check: None };
        let refusal = chassis.mount(plain()).mount(plain()).serve().await.unwrap_err();
        assert_eq!(refusal.exit(), Exit::Config);
        assert!(refusal.to_string().contains("GET /same"), "{refusal}");
    }

    #[tokio::test]
    async fn the_pairs_that_the_chassis_adds_count_among_those_that_consul_takes() {
        let build = BuildInfo { name: "much", version: "0.0.0", git_commit: None, built_at: "unknown" };
        let pairs: Vec<_> = (0..62).map(|n| format!("k{n} = \"v\"")).collect();
        let set = ["discovery.register=consul".to_owned(), format!("discovery.metadata={{ {} }}", pairs.join(", "))];
        let sources = Sources { dir: "no-such-folder".into(), set: set.to_vec(), ..Sources::default() };
        let refusal = Chassis::<NoSettings>::new(build, sources).unwrap_err();
        assert_eq!(refusal.exit(), Exit::Config);
        assert!(refusal.to_string().contains("65 pairs"), "{refusal}");
    }
}
