//! The destinations of calls out: made when they are first asked for, and shared by all who ask for the same.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Chassis, Core, Purpose,
    hosts::{DEFAULT_HOSTS, HostClients},
};
use crate::{
    cli::Command,
    client::{Channel, Client, ClientConfig, destination::Destination},
    consul::{Consul, ConsulQuery, ConsulResolver},
    discovery::{Endpoint, Memory, RegistryKind, Resolver, StaticList, Target, TargetKind},
    error::{Error, Result},
    health::Criticality,
    settings::Settings,
    stack,
    telemetry::metrics::ClientLevels,
    tls::TlsConfig,
};

/// The destinations that were asked for, by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Destinations {
    made: Arc<Mutex<BTreeMap<String, Made>>>,
    /// Those of addresses that are known only at run time, by the name of their section.
    hosts: Arc<Mutex<BTreeMap<String, HostClients>>>,
}

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
    fn get(&self, name: &str, core: &Core, settings: &Settings, purpose: Purpose) -> Result<Arc<Destination>> {
        let mut made = self.lock();
        if let Some(known) = made.get(name) {
            return Ok(known.destination.clone());
        }
        if settings.clients.get(name).is_some_and(|config| config.hosts.is_some()) {
            return Err(Error::config(format!(
                "clients.{name}: found hosts, and the service asks for one client of that name; expected \
                 chassis.host_clients({name:?}), or a target in place of hosts"
            )));
        }
        let destination = make(name, core, settings, purpose)?;
        let critical = settings.clients.get(name).is_some_and(|config| config.critical);
        let criticality = if critical { Criticality::Critical } else { Criticality::NotCritical };
        let reporter = core.health.own_reporter(format!("client:{name}"), criticality);
        let feed = AbortOnDropHandle::new(tokio::spawn(destination.clone().feed(reporter, critical)));
        let levers = AbortOnDropHandle::new(tokio::spawn(destination.clone().expire_levers()));
        made.insert(name.to_owned(), Made { destination: destination.clone(), _feed: feed, _levers: levers });
        Ok(destination)
    }

    /// Those of the hosts of this section; made when they are not there.
    fn hosts(&self, name: &str, core: &Core, settings: &Settings) -> Result<HostClients> {
        let config = match settings.clients.get(name) {
            Some(config) if config.hosts.is_none() => {
                return Err(Error::config(format!(
                    "clients.{name}.hosts: not set, and the service asks for clients of hosts that are known only at run time; \
                     expected for example hosts = {DEFAULT_HOSTS}, and no target"
                )));
            }
            Some(config) => config.clone(),
            None => ClientConfig { hosts: Some(DEFAULT_HOSTS), ..ClientConfig::default() },
        };
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let made = hosts.entry(name.to_owned()).or_insert_with(|| {
            let observer = core.telemetry.client_observer(name, None, &core.identity);
            HostClients::new(name, config, settings.discovery.zone.clone(), observer)
        });
        Ok(made.clone())
    }

    fn all_hosts(&self) -> Vec<(String, HostClients)> {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.iter().map(|(name, hosts)| (name.clone(), hosts.clone())).collect()
    }

    /// What the metrics show of all.
    pub(crate) fn levels(&self) -> Vec<ClientLevels> {
        let made = self.lock().values().map(|made| made.destination.clone()).collect::<Vec<_>>();
        let fixed = made.iter().map(|destination| destination.levels());
        fixed.chain(self.all_hosts().iter().map(|(_, hosts)| hosts.levels())).collect()
    }

    /// Takes over what may change while the service runs.
    pub(super) fn configure(&self, settings: &Settings) {
        for (name, hosts) in self.all_hosts() {
            if let Some(config) = settings.clients.get(&name).filter(|config| config.hosts.is_some()) {
                hosts.configure(config);
            }
        }
        for (name, made) in &*self.lock() {
            made.destination.configure(&settings.clients.get(name).cloned().unwrap_or_default());
        }
    }

    /// All of them, in the order of their names, then those of hosts.
    pub(crate) fn all(&self) -> Vec<Arc<Destination>> {
        let mut all: Vec<_> = self.lock().values().map(|made| made.destination.clone()).collect();
        all.extend(self.all_hosts().iter().flat_map(|(_, hosts)| hosts.all()));
        all
    }

    /// The names that one destination has.
    pub(crate) fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// The one of this name, if it was asked for.
    pub(crate) fn known(&self, name: &str) -> Option<Arc<Destination>> {
        self.lock().get(name).map(|made| made.destination.clone())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Made>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the destination of this name, as the settings have it. One that is only listed is nowhere, and trusts nothing.
fn make(name: &str, core: &Core, settings: &Settings, purpose: Purpose) -> Result<Arc<Destination>> {
    let mut config = match settings.clients.get(name) {
        Some(config) => config.clone(),
        None => ClientConfig::default(),
    };
    let target = match purpose {
        Purpose::Serve => target(name, settings)?,
        Purpose::List => {
            config.tls = TlsConfig::default();
            nowhere(name)?
        }
    };
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

/// Where no instance is.
fn nowhere(name: &str) -> Result<Target> {
    format!("memory://{name}").parse().map_err(|error| Error::config(format!("clients.{name}: {error}")))
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
        Client::to(self.destination(name)?)
    }

    /// Clients of addresses that are known only at run time, by the template `[clients.<name>]`: a section with `hosts` and no
    /// target. Without a section of that name the defaults hold, with 100 hosts.
    ///
    /// ```no_run
    /// use chassis::client::CallError;
    ///
    /// struct Orders {
    ///     callbacks: chassis::HostClients,
    /// }
    ///
    /// impl Orders {
    ///     async fn tell(&self, callback: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    ///         let client = self.callbacks.client_for(callback)?;
    ///         Ok(client.call(http::Method::POST, "").body("shipped").answer::<()>().await?)
    ///     }
    /// }
    ///
    /// # fn run(chassis: &chassis::Chassis) -> chassis::Result<()> {
    /// let orders = Orders { callbacks: chassis.host_clients("callbacks")? };
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Exit code 78: the section is of one destination.
    pub fn host_clients(&self, name: &str) -> Result<HostClients> {
        self.core.destinations.hosts(name, &self.core, self.config())
    }

    /// The gRPC channel of the destination `[clients.<name>]`, for a client that tonic has generated. As
    /// [`client`](Self::client), and over the same endpoints and breakers.
    ///
    /// # Errors
    ///
    /// As [`client`](Self::client).
    pub fn channel(&self, name: &str) -> Result<Channel> {
        Ok(Channel::new(self.destination(name)?))
    }

    fn destination(&self, name: &str) -> Result<Arc<Destination>> {
        let purpose = if self.command == Command::Serve { Purpose::Serve } else { Purpose::List };
        self.core.destinations.get(name, &self.core, self.config(), purpose)
    }
}
