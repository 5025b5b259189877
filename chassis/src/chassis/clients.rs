//! The destinations of calls out: made when they are first asked for, and shared by all who ask for the same.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use tokio_util::task::AbortOnDropHandle;

use super::{Chassis, Core};
use crate::{
    client::{Channel, Client, ClientConfig, destination::Destination},
    consul::{Consul, ConsulQuery, ConsulResolver},
    discovery::{Endpoint, Memory, RegistryKind, Resolver, StaticList, Target, TargetKind},
    error::{Error, Result},
    health::Criticality,
    settings::Settings,
    stack,
    tls::TlsConfig,
};

/// The destinations that were asked for, by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Destinations(Arc<Mutex<BTreeMap<String, Made>>>);

#[derive(Debug)]
struct Made {
    destination: Arc<Destination>,
    /// Tells the health registry how it stands; aborted with this.
    _feed: AbortOnDropHandle<()>,
    /// Ends what operators have set.
    _levers: AbortOnDropHandle<()>,
}

impl Destinations {
    /// The one of this name; made when it is not there.
    fn get(&self, name: &str, core: &Core, settings: &Settings) -> Result<Arc<Destination>> {
        let mut made = self.lock();
        if let Some(known) = made.get(name) {
            return Ok(known.destination.clone());
        }
        let destination = make(name, core, settings)?;
        let critical = settings.clients.get(name).is_some_and(|config| config.critical);
        let criticality = if critical { Criticality::Critical } else { Criticality::NotCritical };
        let reporter = core.health.own_reporter(format!("client:{name}"), criticality);
        let feed = AbortOnDropHandle::new(tokio::spawn(destination.clone().feed(reporter, critical)));
        let levers = AbortOnDropHandle::new(tokio::spawn(destination.clone().expire_levers()));
        made.insert(name.to_owned(), Made { destination: destination.clone(), _feed: feed, _levers: levers });
        Ok(destination)
    }

    /// Takes over what may change while the service runs.
    pub(super) fn configure(&self, settings: &Settings) {
        for (name, made) in &*self.lock() {
            made.destination.configure(&settings.clients.get(name).cloned().unwrap_or_default());
        }
    }

    /// All of them, in the order of their names.
    pub(crate) fn all(&self) -> Vec<Arc<Destination>> {
        self.lock().values().map(|made| made.destination.clone()).collect()
    }

    /// The one of this name, if it was asked for.
    pub(crate) fn known(&self, name: &str) -> Option<Arc<Destination>> {
        self.lock().get(name).map(|made| made.destination.clone())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Made>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the destination of this name, as the settings have it.
fn make(name: &str, core: &Core, settings: &Settings) -> Result<Arc<Destination>> {
    let mut config = match settings.clients.get(name) {
        Some(config) => config.clone(),
        None => ClientConfig::default(),
    };
    let target = target(name, settings)?;
    if let TargetKind::Address { tls: true, .. } = target.kind() {
        config.tls = TlsConfig { enabled: true, ..config.tls };
    }
    let observer = Arc::new(core.telemetry.client_observer(name, port(&target), &core.identity));
    let stack = stack::outbound(&config, target.name(), settings.discovery.zone.as_deref(), observer)
        .map_err(|error| Error::config(format!("clients.{name}.tls.{error}")))?;
    let resolver = resolver(name, &target, settings)?;
    Ok(Destination::new(name, target, &config, &*resolver, stack))
}

/// Where the endpoints of this client are found: as it says, or else the registry under its name.
fn target(name: &str, settings: &Settings) -> Result<Target> {
    let config = settings.clients.get(name);
    let text = match (config.and_then(|config| config.target.as_deref()), settings.discovery.register) {
        (Some(target), _) => target.to_owned(),
        (None, RegistryKind::Consul) => format!("consul://{name}"),
        (None, RegistryKind::Memory) => format!("memory://{name}"),
        (None, RegistryKind::None) if config.is_some() => {
            return Err(Error::config(format!(
                "clients.{name}.target: not set, and discovery.register names no registry to ask for {name:?}; \
                 expected for example target = \"http://{name}:8080\""
            )));
        }
        (None, RegistryKind::None) => return Err(unknown(name, settings)),
    };
    text.parse().map_err(|error| Error::config(format!("clients.{name}.target: {error}")))
}

/// The code asks for a client that the settings do not know.
fn unknown(name: &str, settings: &Settings) -> Error {
    let known: Vec<_> = settings.clients.keys().map(String::as_str).collect();
    let known = match known.is_empty() {
        true => "there are none".to_owned(),
        false => format!("known are {}", known.join(", ")),
    };
    Error::config(format!(
        "clients.{name}: not set, and the service asks for the client {name:?} ({known}); expected a section [clients.{name}] \
         with for example target = \"http://{name}:8080\", or a registry in discovery.register"
    ))
}

/// The port, when all endpoints have the same.
fn port(target: &Target) -> Option<u16> {
    match target.kind() {
        TargetKind::Address { port, .. } | TargetKind::Dns { port, .. } => Some(*port),
        _ => None,
    }
}

/// What follows the endpoints of a target.
fn resolver(name: &str, target: &Target, settings: &Settings) -> Result<Box<dyn Resolver>> {
    Ok(match target.kind() {
        TargetKind::Static(endpoints) => Box::new(StaticList::new(endpoints.clone())),
        TargetKind::Address { host, port, .. } => Box::new(StaticList::new(vec![Endpoint::at(host, *port)])),
        TargetKind::Memory { service } => Box::new(Memory::process().resolver(service)),
        TargetKind::Consul { service, tags, datacenter, near, namespace, partition } => {
            let query = ConsulQuery {
                service: service.clone(),
                tags: tags.clone(),
                datacenter: datacenter.clone(),
                near: near.clone(),
                namespace: namespace.clone(),
                partition: partition.clone(),
            };
            Box::new(ConsulResolver::new(Consul::new(&settings.consul)?, &query))
        }
        #[cfg(feature = "dns")]
        TargetKind::Dns { name: host, port, server } => Box::new(dns(name, host, Some(*port), server.as_ref())?),
        #[cfg(feature = "dns")]
        TargetKind::Srv { name: host, server } => Box::new(dns(name, host, None, server.as_ref())?),
        #[cfg(not(feature = "dns"))]
        TargetKind::Dns { .. } | TargetKind::Srv { .. } => {
            return Err(Error::config(format!(
                "clients.{name}.target: found {target}, and this program was built without DNS; add the cargo feature \"dns\" of \
                 chassis-rs"
            )));
        }
    })
}

#[cfg(feature = "dns")]
fn dns(
    name: &str,
    host: &str,
    port: Option<u16>,
    server: Option<&crate::discovery::NameServer>,
) -> Result<crate::discovery::DnsResolver> {
    let server = server.map(|server| (server.address, server.port).into());
    crate::discovery::DnsResolver::new(host, port, server)
        .map_err(|error| Error::config(format!("clients.{name}.target: {error}")))
}

impl<S> Chassis<S>
where
    S: DeserializeOwned + JsonSchema + Send + Sync + 'static,
{
    /// The client of the destination `[clients.<name>]`: its endpoints, balanced, each with a breaker and connections of its
    /// own; retries, deadline and limit as the settings have them. All clients and channels of one name share them.
    ///
    /// Without a section of that name, the registry of `discovery.register` is asked for the name.
    ///
    /// ```no_run
    /// # #[derive(serde::Deserialize, serde::Serialize)] struct Item;
    /// #[chassis::client]
    /// trait InventoryApi {
    ///     #[get("/items/{sku}")]
    ///     async fn item(&self, sku: &str) -> Result<Item, chassis::client::CallError>;
    /// }
    ///
    /// # fn run(chassis: &chassis::Chassis) -> chassis::Result<()> {
    /// let inventory = InventoryApiClient::new(chassis.client("inventory")?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Exit code 78: there is no such section and no registry, or its target or its certificates make no sense.
    pub fn client(&self, name: &str) -> Result<Client> {
        Client::to(self.core.destinations.get(name, &self.core, self.config())?)
    }

    /// The gRPC channel of the destination `[clients.<name>]`, for a client that tonic has generated. As
    /// [`client`](Self::client), and over the same endpoints and breakers.
    ///
    /// # Errors
    ///
    /// As [`client`](Self::client).
    pub fn channel(&self, name: &str) -> Result<Channel> {
        Ok(Channel::new(self.core.destinations.get(name, &self.core, self.config())?))
    }
}
