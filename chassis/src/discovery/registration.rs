//! This instance's own registration: what it says, whom it tells, and how it ends.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{DiscoveryConfig, EndpointHealth, Progress, ProgressState, Registrar, Registration, Standing};
use crate::{
    error::{Error, Result},
    health::{Criticality, Registry, Reporter, Status},
    identity::Identity,
};

/// The name of the health check.
const CHECK: &str = "registration";
/// How long the way out of the registry may take. Chosen: an agent beside the instance answers within milliseconds; one that does
/// not must not hold up the stop.
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

/// Where others reach this instance: as configured, else where it listens, else at the interface that leads to the registry.
///
/// `registry` is the registry's host and port.
///
/// # Errors
///
/// Exit code 78: an address that only this machine can reach is of no use to a registry elsewhere.
pub(crate) fn host(configured: Option<&str>, bound: Option<IpAddr>, registry: (&str, u16)) -> Result<Host> {
    let ip = |host: &str| host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let is_local = |host: &str| host == "localhost" || ip(host).is_some_and(|ip| ip.is_loopback());
    let (agent, port) = registry;
    // Of a name it is not known.
    let elsewhere = ip(agent).is_some_and(|ip| !ip.is_loopback());
    let refuse = |key: &str, found: &str, expected: &str| {
        Err(Error::config(format!(
            "{key}: found {found}, expected {expected}, since this instance is registered at {agent}"
        )))
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
            refuse("http.address", &bound.to_string(), "an address that other machines reach, or 0.0.0.0")
        }
        Some(bound) => Ok(Host::Known(bound.to_string())),
    }
}

/// Finds what the configuration says twice.
///
/// # Errors
///
/// Exit code 78: a key of the metadata that the chassis sets itself.
pub(crate) fn check_metadata(config: &DiscoveryConfig) -> Result<()> {
    match OWN_METADATA.iter().find(|key| config.metadata.contains_key(**key)) {
        Some(key) => Err(Error::config(format!("discovery.metadata.{key}: the chassis sets it itself; take it out"))),
        None => Ok(()),
    }
}

/// What this instance says of itself. `protocols` are the words of what it speaks: `http`, `grpc`.
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
        id: format!("{}-{}", identity.service, identity.instance_id),
        host: String::new(),
        port,
        tags: config.tags.clone(),
        metadata,
        weight: config.weight,
    }
}

/// A registration that is being kept. Dropped, it is not kept any more, and the registry finds out by itself.
#[derive(Debug)]
pub(crate) struct Registering {
    stop: CancellationToken,
    task: JoinSet<()>,
}

impl Registering {
    /// Registers, and follows the health from then on. Nobody has to wait for it.
    pub(crate) fn start(
        registrar: Arc<dyn Registrar>,
        host: Host,
        registration: Registration,
        health: &Registry,
    ) -> Self {
        let stop = CancellationToken::new();
        let reporter = health.reporter(CHECK, Criticality::NotCritical);
        reporter.degraded("not registered yet");
        let mut task = JoinSet::new();
        task.spawn(run(registrar, host, registration, health.clone(), reporter, stop.clone()));
        Self { stop, task }
    }

    /// Takes the instance out of the registry, in [`LEAVE`] at most.
    pub(crate) async fn leave(mut self) {
        self.stop.cancel();
        if timeout(LEAVE, self.task.join_next()).await.is_err() {
            tracing::warn!(limit = ?LEAVE, "the registry did not answer in time: this instance may still be registered");
        }
    }
}

async fn run(
    registrar: Arc<dyn Registrar>,
    host: Host,
    mut registration: Registration,
    health: Registry,
    reporter: Reporter,
    stop: CancellationToken,
) {
    registration.host = match host {
        Host::Known(host) => host,
        Host::Towards(registry, port) => tokio::select! {
            host = found(&registry, port, &reporter) => host,
            () = stop.cancelled() => return,
        },
    };
    let (sender, standing) = watch::channel(standing(&health));
    let mut keep = registrar.keep(registration, standing, stop);
    let mut progress = registrar.progress();
    let mut summary = health.subscribe();
    let mut shown = ProgressState::Pending;
    loop {
        show(&progress.borrow_and_update(), &mut shown, &reporter);
        tokio::select! {
            biased;
            () = &mut keep => return,
            Ok(_) = summary.changed() => {
                sender.send_if_modified(|before| {
                    let now = self::standing(&health);
                    let changed = *before != now;
                    *before = now;
                    changed
                });
            }
            Ok(()) = progress.changed() => {}
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
    use super::*;

    fn known(host: &str) -> Host {
        Host::Known(host.to_owned())
    }

    #[test]
    fn others_are_told_an_address_that_they_can_reach() {
        let v4 = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        for (configured, bound, agent, expected) in [
            (Some("orders.internal"), v4("0.0.0.0"), "10.0.0.1", Some(known("orders.internal"))),
            (Some("127.0.0.1"), v4("0.0.0.0"), "127.0.0.1", Some(known("127.0.0.1"))),
            (Some("localhost"), v4("0.0.0.0"), "10.0.0.1", None),
            (Some("0.0.0.0"), v4("0.0.0.0"), "127.0.0.1", None),
            (Some(""), v4("0.0.0.0"), "127.0.0.1", None),
            (None, v4("10.0.0.5"), "10.0.0.1", Some(known("10.0.0.5"))),
            (None, v4("127.0.0.1"), "localhost", Some(known("127.0.0.1"))),
            (None, v4("127.0.0.1"), "10.0.0.1", None),
            (None, v4("::1"), "10.0.0.1", None),
            (None, v4("0.0.0.0"), "127.0.0.1", Some(known(""))),
            (None, v4("::"), "[::1]", Some(known(""))),
            (None, v4("0.0.0.0"), "consul.internal", Some(Host::Towards("consul.internal".to_owned(), 8500))),
            (None, None, "127.0.0.1", None),
        ] {
            let host = host(configured, bound, (agent, 8500)).ok();
            assert_eq!(host, expected, "{configured:?} {bound:?} {agent}");
        }
    }

    #[tokio::test]
    async fn the_interface_that_leads_there_has_the_address() {
        let reporter = Registry::default().reporter(CHECK, Criticality::NotCritical);
        assert_eq!(found("127.0.0.1", 9, &reporter).await, "", "the node of an agent beside this instance");
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
