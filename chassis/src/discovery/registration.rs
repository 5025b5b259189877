//! This instance's own registration: what it says, whom it tells, and how it ends.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{DiscoveryConfig, EndpointHealth, Progress, ProgressState, Registrar, Registration, Standing};
use crate::{
    health::{Criticality, Registry, Reporter, Status, caught},
    identity::Identity,
    tasks::{Restart, Tasks}, // floor: who supervises is handed in
};

/// The name of the health check.
const CHECK: &str = "registration";
/// How long the stop waits for the way out of the registry. Chosen: an agent beside the instance answers within milliseconds;
/// one that does not must not hold up the stop. It is tried on while the instance drains.
pub(crate) const LEAVE: Duration = Duration::from_secs(2);
/// How long to wait before a host name is looked up again.
const LOOKUP_REST: Duration = Duration::from_secs(1);
/// What the chassis itself says in the metadata.
const OWN_METADATA: [&str; 4] = ["version", "zone", "protocol", "instance"];

/// Where others reach this instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// There; empty: at the address of the registry's node.
    Known(String),
    /// At the address of the interface that leads to this host and port.
    Towards(String, u16),
}

/// Where the main port is, or will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    Ip(IpAddr),
    Unix,
}

impl Bound {
    /// As far as the text of `http.address` alone says.
    pub(crate) fn of(address: &str) -> Option<Self> {
        if address.starts_with("unix:") {
            return Some(Self::Unix);
        }
        address.parse().ok().map(|address: SocketAddr| Self::Ip(address.ip()))
    }

    pub(crate) fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Ip(ip) => Some(ip),
            Self::Unix => None,
        }
    }
}

/// What is said of an address that only this machine can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loopback {
    /// It suffices: callers are on this machine.
    Suffices,
    /// It is published only when `discovery.host` says so: an agent on this machine tells a whole cluster.
    MustBeMeant,
}

/// Where others reach this instance: as configured, else where it listens, else at the interface that leads to the registry.
///
/// `registry` is the registry's host and port.
///
/// # Errors
///
/// The key, and what is wrong: an address that only this machine can reach is of no use to a registry elsewhere.
pub(crate) fn host(
    configured: Option<&str>,
    bound: Option<IpAddr>,
    registry: (&str, u16),
    loopback: Loopback,
) -> Result<Host, (String, String)> {
    let ip = |host: &str| host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let is_local = |host: &str| host == "localhost" || ip(host).is_some_and(|ip| ip.is_loopback());
    let (agent, port) = registry;
    // Of a name it is not known.
    let elsewhere = ip(agent).is_some_and(|ip| !ip.is_loopback());
    let refuse = |key: &str, found: &str, expected: &str| {
        let message = format!("found {found}, expected {expected}, since this instance is registered at {agent}");
        Err((key.to_owned(), message))
    };
    if let Some(host) = configured {
        if ip(host).is_some_and(|ip| ip.is_unspecified()) || host.is_empty() {
            return refuse("discovery.host", &format!("{host:?}"), "the host or address that others reach it at");
        }
        if elsewhere && is_local(host) {
            return refuse("discovery.host", host, "an address that other machines reach");
        }
        return Ok(Host::Known(host.to_owned()));
    }
    match bound {
        None => refuse("discovery.host", "none", "the host that others reach it at (http.address is a Unix socket)"),
        Some(bound) if bound.is_unspecified() => Ok(if is_local(agent) {
            // The agent beside this instance knows by which address its node is reached; loopback is not that address.
            Host::Known(String::new())
        } else {
            Host::Towards(agent.trim_matches(['[', ']']).to_owned(), port)
        }),
        Some(bound) if bound.is_loopback() && elsewhere => {
            refuse("http.address", &bound.to_string(), "an address that other machines reach, or [::]")
        }
        Some(bound) if bound.is_loopback() && loopback == Loopback::MustBeMeant => refuse(
            "http.address",
            &bound.to_string(),
            &format!(
                "an address that other machines reach, or [::], or discovery.host = \"{bound}\" when all callers run here"
            ),
        ),
        Some(bound) => Ok(Host::Known(bound.to_string())),
    }
}

/// What is wrong when there is no port to be told: the key, and the words.
pub(crate) fn no_port() -> (String, String) {
    let message =
        "found none, expected the port that others reach this instance at, since http.address is a Unix socket";
    ("discovery.port".to_owned(), message.to_owned())
}

/// Finds what the configuration says twice: keys of the metadata that the chassis sets itself.
pub(crate) fn check_metadata(config: &DiscoveryConfig) -> Vec<(String, String)> {
    let twice = OWN_METADATA.iter().filter(|key| config.metadata.contains_key(**key));
    let told = "the chassis sets it itself; take it out";
    twice.map(|key| (format!("discovery.metadata.{key}"), told.to_owned())).collect()
}

/// What this instance says of itself; the id is another one each time. `protocols` are the words of what it speaks: `http`, `grpc`.
pub(crate) fn registration(
    config: &DiscoveryConfig,
    identity: &Identity,
    port: u16,
    protocols: &[&str],
) -> Registration {
    let mut metadata = config.metadata.clone();
    let mut say = |key: &str, value: &str| metadata.insert(key.to_owned(), value.to_owned());
    say("version", &identity.version);
    say("protocol", &protocols.join(","));
    say("instance", &identity.instance_id);
    if let Some(zone) = &config.zone {
        say("zone", zone);
    }
    Registration {
        service: identity.service.clone(),
        // The instance's id may be one that is set, and so the same after a restart: the end of the one before must not take
        // out its successor.
        id: format!("{}-{}-{:08x}", identity.service, identity.instance_id, fastrand::u32(..)),
        host: String::new(),
        port,
        tags: config.tags.clone(),
        metadata,
        weight: config.weight,
    }
}

/// A registration that is being kept by a background task, which is started again when it panics.
#[derive(Debug)]
pub(crate) struct Registering {
    stop: CancellationToken,
    runs: TaskTracker,
    progress: watch::Receiver<Progress>,
}

impl Registering {
    /// Registers, and follows the health from then on. Nobody has to wait for it.
    pub(crate) fn start(
        tasks: &Tasks,
        registrar: Arc<dyn Registrar>,
        host: Host,
        registration: Registration,
        health: &Registry,
    ) -> Self {
        let (stop, runs) = (CancellationToken::new(), TaskTracker::new());
        let (shown, progress) = watch::channel(Progress::default());
        let reporter = health.own_reporter(CHECK, Criticality::NotCritical);
        reporter.degraded("not registered yet");
        let keeper = Arc::new(Keeper {
            registrar,
            host,
            registration,
            health: health.clone(),
            reporter,
            shown,
            stop: stop.clone(),
        });
        let begun = runs.clone();
        tasks.spawn(CHECK, Restart::OnFailure, move |ended| {
            let (keeper, running) = (keeper.clone(), begun.token());
            async move {
                let _running = running;
                keeper.run(ended).await
            }
        });
        Self { stop, runs, progress }
    }

    /// How it goes.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Takes the instance out of the registry. Waits for that for [`LEAVE`] at most; afterwards the task tries on until it is
    /// ended with all others.
    pub(crate) async fn leave(self) {
        self.stop.cancel();
        self.runs.close();
        if timeout(LEAVE, self.runs.wait()).await.is_err() {
            tracing::warn!(limit = ?LEAVE, "the registry has not let this instance go in time: trying on while it drains");
        }
    }
}

/// What the task has.
struct Keeper {
    registrar: Arc<dyn Registrar>,
    host: Host,
    registration: Registration,
    health: Registry,
    reporter: Reporter,
    shown: watch::Sender<Progress>,
    stop: CancellationToken,
}

impl Keeper {
    /// Runs until the way out has been taken, or until `ended`. Any other end is a failure, and shown as one.
    async fn run(&self, ended: CancellationToken) -> Result<(), String> {
        if self.stop.is_cancelled() {
            return Ok(());
        }
        let end = tokio::select! {
            biased;
            end = caught(|| self.keep()) => end,
            () = ended.cancelled() => {
                tracing::warn!("the registry did not answer in time: this instance may still be registered");
                return Ok(());
            }
        };
        if matches!(end, Ok(())) && self.stop.is_cancelled() {
            return Ok(());
        }
        let reason = end.as_ref().map_or_else(|panic| format!("panicked: {panic}"), |()| "ended early".to_owned());
        self.reporter.down(format!("the task that keeps the registration {reason}"));
        self.shown.send_modify(|progress| {
            progress.state = ProgressState::Failing { kind: (u8::MAX, u16::MAX), reason: reason.as_str().into() };
        });
        match end {
            Ok(()) => Err(reason),
            // Its supervisor counts it as what it is. The hook that logs panics has seen it already.
            Err(panic) => std::panic::resume_unwind(Box::new(panic)),
        }
    }

    async fn keep(&self) {
        let mut registration = self.registration.clone();
        registration.host = match &self.host {
            Host::Known(host) => host.clone(),
            Host::Towards(registry, port) => tokio::select! {
                host = found(registry, *port, &self.reporter) => host,
                () = self.stop.cancelled() => return,
            },
        };
        // First followed, then looked at: what changes in between is seen twice, and not never.
        let mut summary = self.health.subscribe();
        let (sender, standing) = watch::channel(standing(&self.health));
        let mut keep = self.registrar.keep(registration, standing, self.stop.clone());
        let mut progress = self.registrar.progress();
        let mut shown = ProgressState::Pending;
        loop {
            let now = progress.borrow_and_update().clone();
            show(&now, &mut shown, &self.reporter);
            self.shown.send_replace(now);
            // The note names checks that the summary does not follow, so it is looked at after each renewal too.
            tokio::select! {
                biased;
                () = &mut keep => return,
                Ok(_) = summary.changed() => {}
                Ok(()) = progress.changed() => {}
            }
            sender.send_if_modified(|before| {
                let now = self::standing(&self.health);
                let changed = *before != now;
                *before = now;
                changed
            });
        }
    }
}

/// The address of the interface that leads to the registry: a UDP socket that sends nothing is asked.
async fn found(registry: &str, port: u16, reporter: &Reporter) -> String {
    let mut told = false;
    loop {
        let asked = async {
            let address: SocketAddr = tokio::net::lookup_host((registry, port))
                .await?
                .next()
                .ok_or_else(|| std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address"))?;
            let any: SocketAddr = if address.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
            let socket = UdpSocket::bind(any).await?;
            socket.connect(address).await?;
            socket.local_addr().map(|address| address.ip())
        };
        match asked.await {
            // The same as where the agent is given by its address: its node knows better.
            Ok(ip) if ip.is_loopback() => return String::new(),
            Ok(ip) => return ip.to_string(),
            Err(error) => {
                let reason = format!("no way to the registry at {registry}: {error}");
                if !told {
                    tracing::warn!(reason, "not registered");
                    reporter.degraded(reason);
                    told = true;
                }
                sleep(LOOKUP_REST.mul_f64(0.5 + fastrand::f64())).await;
            }
        }
    }
}

fn show(progress: &Progress, shown: &mut ProgressState, reporter: &Reporter) {
    if progress.state != *shown {
        shown.clone_from(&progress.state);
        match shown {
            ProgressState::Registered => reporter.up(),
            ProgressState::Failing { reason, .. } => reporter.degraded(&**reason),
            ProgressState::Pending | ProgressState::Left => {}
        }
    }
}

/// The instance's readiness in the words of a registry.
///
/// Degraded is passing: the instance works and takes traffic. Callers that take passing instances only would lose all replicas at
/// once when a thing that all of them can do without is away.
fn standing(health: &Registry) -> Standing {
    let report = health.report();
    // Names only: messages may say more than everybody should read.
    let bad = report.checks.iter().filter(|(name, check)| check.status != Status::Up && *name != CHECK);
    let bad: Vec<_> = bad.map(|(name, check)| format!("{name} {}", check.status)).collect();
    let word = match (report.summary.ready, report.summary.draining, report.summary.started) {
        (true, ..) => "ready",
        (false, true, _) => "draining",
        (false, false, false) => "starting",
        (false, false, true) => "not ready",
    };
    let note = if bad.is_empty() { word.to_owned() } else { format!("{word}: {}", bad.join(", ")) };
    let health = if report.summary.ready { EndpointHealth::Passing } else { EndpointHealth::Critical };
    Standing { health, note }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::discovery::Task;

    fn known(host: &str) -> Host {
        Host::Known(host.to_owned())
    }

    #[test]
    fn others_are_told_an_address_that_they_can_reach() {
        use Loopback::{MustBeMeant, Suffices};
        let v4 = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        for (configured, bound, agent, loopback, expected) in [
            (Some("orders.internal"), v4("0.0.0.0"), "10.0.0.1", MustBeMeant, Some(known("orders.internal"))),
            (Some("127.0.0.1"), v4("0.0.0.0"), "127.0.0.1", MustBeMeant, Some(known("127.0.0.1"))),
            (Some("localhost"), v4("0.0.0.0"), "10.0.0.1", Suffices, None),
            (Some("0.0.0.0"), v4("0.0.0.0"), "127.0.0.1", Suffices, None),
            (Some(""), v4("0.0.0.0"), "127.0.0.1", Suffices, None),
            (None, v4("10.0.0.5"), "10.0.0.1", MustBeMeant, Some(known("10.0.0.5"))),
            (None, v4("127.0.0.1"), "localhost", Suffices, Some(known("127.0.0.1"))),
            (None, v4("127.0.0.1"), "localhost", MustBeMeant, None),
            (None, v4("127.0.0.1"), "127.0.0.1", MustBeMeant, None),
            (None, v4("127.0.0.1"), "consul.internal", MustBeMeant, None),
            (None, v4("127.0.0.1"), "10.0.0.1", Suffices, None),
            (None, v4("::1"), "10.0.0.1", Suffices, None),
            (None, v4("0.0.0.0"), "127.0.0.1", MustBeMeant, Some(known(""))),
            (None, v4("::"), "[::1]", MustBeMeant, Some(known(""))),
            (None, v4("0.0.0.0"), "consul.internal", MustBeMeant, Some(Host::Towards("consul.internal".into(), 8500))),
            (None, None, "127.0.0.1", Suffices, None),
        ] {
            let host = host(configured, bound, (agent, 8500), loopback).ok();
            assert_eq!(host, expected, "{configured:?} {bound:?} {agent} {loopback:?}");
        }
    }

    #[tokio::test]
    async fn the_interface_that_leads_there_has_the_address() {
        let reporter = Registry::default().own_reporter(CHECK, Criticality::NotCritical);
        assert_eq!(found("127.0.0.1", 9, &reporter).await, "", "the node of an agent beside this instance");
    }

    /// A registry whose every turn the test decides.
    #[derive(Debug, Default)]
    struct Told {
        kept: Mutex<Vec<watch::Receiver<Standing>>>,
        progress: watch::Sender<Progress>,
        panics: bool,
        /// How long the way out takes.
        way_out: Duration,
        /// What happens while it is asked to keep the entry.
        meanwhile: Mutex<Option<Reporter>>,
    }

    impl Registrar for Told {
        fn keep(&self, _: Registration, standing: watch::Receiver<Standing>, stop: CancellationToken) -> Task {
            if let Some(reporter) = self.meanwhile.lock().unwrap().take() {
                reporter.down("refused");
            }
            let mut kept = self.kept.lock().unwrap();
            kept.push(standing);
            let (panics, way_out) = (self.panics && kept.len() == 1, self.way_out);
            let progress = self.progress.clone();
            Box::pin(async move {
                progress.send_modify(|progress| progress.state = ProgressState::Registered);
                // The one who follows it has seen it by then.
                sleep(Duration::from_secs(1)).await;
                assert!(!panics, "a turn that nobody thought of");
                stop.cancelled().await;
                sleep(way_out).await;
                progress.send_modify(|progress| progress.state = ProgressState::Left);
            })
        }

        fn progress(&self) -> watch::Receiver<Progress> {
            self.progress.subscribe()
        }
    }

    /// Registered there, with tasks of its own.
    fn registering(told: &Arc<Told>, health: &Registry) -> (Registering, Tasks) {
        let tasks = Tasks::new(health.clone());
        let entry = registration(&DiscoveryConfig::default(), &identity(), 80, &["http"]);
        (Registering::start(&tasks, told.clone(), known("10.0.0.5"), entry, health), tasks)
    }

    fn identity() -> Identity {
        let build = crate::identity::BuildInfo { name: "orders", version: "1", git_commit: None, built_at: "now" };
        let instance_id = "orders-0".to_owned();
        Identity { service: "orders".into(), version: "1".into(), instance_id, environment: "prod".into(), build }
    }

    fn status(health: &Registry) -> Status {
        health.report().checks[CHECK].status
    }

    #[test]
    fn two_starts_with_the_same_instance_id_are_two_entries() {
        let [one, two] = [(); 2].map(|()| registration(&DiscoveryConfig::default(), &identity(), 80, &["http"]));
        assert_ne!(one.id, two.id);
        assert!(one.id.starts_with("orders-orders-0-"), "{}", one.id);
        assert_eq!(one.metadata["instance"], "orders-0");
    }

    #[tokio::test(start_paused = true)]
    async fn what_changes_while_the_entry_is_made_is_told() {
        let health = Registry::default();
        health.mark_started();
        let store = health.reporter("store", Criticality::Critical);
        store.up();
        let told = Arc::new(Told { meanwhile: Mutex::new(Some(store)), ..Told::default() });
        let (_registering, _tasks) = registering(&told, &health);
        sleep(Duration::from_secs(2)).await;
        let kept = told.kept.lock().unwrap()[0].borrow().clone();
        assert_eq!((kept.health, kept.note.as_str()), (EndpointHealth::Critical, "not ready: store down"));
    }

    #[tokio::test(start_paused = true)]
    async fn each_renewal_brings_the_note_up_to_date() {
        let health = Registry::default();
        health.mark_started();
        let [cache, mail] = ["cache", "mail"].map(|name| health.reporter(name, Criticality::NotCritical));
        cache.degraded("slow");
        mail.up();
        let told = Arc::new(Told::default());
        let (_registering, _tasks) = registering(&told, &health);
        sleep(Duration::from_secs(2)).await;
        let summary = health.subscribe();
        mail.degraded("slow");
        assert!(!summary.has_changed().unwrap(), "else it would be told without a renewal");
        told.progress.send_modify(|progress| progress.succeeded += 1);
        sleep(Duration::from_millis(1)).await;
        let note = told.kept.lock().unwrap()[0].borrow().note.clone();
        assert_eq!(note, "ready: cache degraded, mail degraded");
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_of_the_task_is_seen_and_it_registers_again() {
        let health = Registry::default();
        let told = Arc::new(Told { panics: true, ..Told::default() });
        let (registering, tasks) = registering(&told, &health);
        let mut progress = registering.progress();
        progress.wait_for(|progress| progress.state == ProgressState::Registered).await.unwrap();
        assert_eq!(status(&health), Status::Up);
        progress.wait_for(|progress| progress.state != ProgressState::Registered).await.unwrap();
        assert_eq!((status(&health), tasks.stats()[0].panics()), (Status::Down, 1));
        progress.wait_for(|progress| progress.state == ProgressState::Registered).await.unwrap();
        assert_eq!((status(&health), told.kept.lock().unwrap().len()), (Status::Up, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_way_out_that_takes_long_goes_on_while_the_instance_drains_and_ends_with_the_tasks() {
        let health = Registry::default();
        for (way_out, left) in [(LEAVE * 2, true), (LEAVE * 20, false)] {
            let told = Arc::new(Told { way_out, ..Told::default() });
            let (registering, tasks) = registering(&told, &health);
            sleep(Duration::from_secs(2)).await;
            let begun = tokio::time::Instant::now();
            registering.leave().await;
            assert!(begun.elapsed() >= LEAVE && begun.elapsed() < LEAVE + Duration::from_millis(5));
            // The drain.
            sleep(LEAVE * 4).await;
            assert_eq!(told.progress.borrow().state == ProgressState::Left, left);
            let aborted = tasks.shutdown(tokio::time::Instant::now().into_std() + LEAVE).await;
            assert!(aborted.is_empty(), "{aborted:?}");
            assert!(begun.elapsed() < LEAVE * 6);
        }
    }

    #[test]
    fn only_readiness_makes_critical_and_the_note_names_what_is_not_up() {
        let health = Registry::default();
        assert_eq!((standing(&health).health, standing(&health).note.as_str()), (EndpointHealth::Critical, "starting"));
        health.mark_started();
        let (cache, store) =
            (health.reporter("cache", Criticality::NotCritical), health.reporter("store", Criticality::Critical));
        store.up();
        cache.degraded("the password of cache-7 is wrong");
        assert_eq!(
            standing(&health),
            Standing { health: EndpointHealth::Passing, note: "ready: cache degraded".to_owned() }
        );
        cache.up();
        store.down("refused");
        assert_eq!(
            standing(&health),
            Standing { health: EndpointHealth::Critical, note: "not ready: store down".to_owned() }
        );
        health.set_draining();
        assert_eq!(standing(&health).note, "draining: store down");
    }
}
