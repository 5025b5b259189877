//! Clients of addresses that are known only at run time: callbacks, webhooks. A bounded number of stacks, made as addresses
//! are called.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    client::{Client, ClientConfig, destination::Destination, observe::ClientObserver},
    discovery::{StaticList, Target, TargetKind},
    error::{Error, Result},
    stack,
    telemetry::metrics::ClientLevels,
    tls::TlsConfig,
};

/// How many hosts have a stack when no section says it. Chosen: a stack is a few kilobytes and its idle connections.
pub(crate) const DEFAULT_HOSTS: u32 = 100;

/// Makes clients of addresses that are known only at run time, by the settings of one section. Cheap to clone.
///
/// Each host and port has a stack of its own: connections, a breaker, retries, a limit. So many are kept as `hosts` of the
/// section says; the least recently used is dropped for a new one, and its calls under way end as they would have. Spans,
/// metrics and log lines have the section's name as their destination, so that hosts add no series.
#[derive(Clone)]
pub struct HostClients(Arc<Inner>);

struct Inner {
    name: Arc<str>,
    zone: Option<String>,
    observer: Arc<ClientObserver>,
    state: Mutex<State>,
}

struct State {
    config: ClientConfig,
    /// By scheme, host and port.
    hosts: HashMap<String, Host>,
    /// Counts the calls of `client_for`.
    clock: u64,
    /// What the stacks have counted that were dropped.
    past: ClientLevels,
}

struct Host {
    destination: Arc<Destination>,
    used: u64,
}

impl HostClients {
    pub(super) fn new(name: &str, config: ClientConfig, zone: Option<String>, observer: ClientObserver) -> Self {
        let state = State { config, hosts: HashMap::new(), clock: 0, past: ClientLevels::default() };
        Self(Arc::new(Inner { name: name.into(), zone, observer: Arc::new(observer), state: Mutex::new(state) }))
    }

    /// The client of this address, `https://example.com:8443/hook`. The path is put before that of each call; a call of the
    /// empty template goes to the path itself. Must be called inside a tokio runtime.
    ///
    /// An address that comes from elsewhere may be one of the service's own network: check it against a list of hosts first,
    /// and let a proxy or a network policy refuse private addresses, since a name may be resolved to any (server-side request
    /// forgery).
    ///
    /// # Errors
    ///
    /// The address has another scheme than `http` and `https`, credentials or a query; or its TLS cannot be set up.
    pub fn client_for(&self, uri: &str) -> Result<Client> {
        let target = Client::origin(uri)?;
        let destination = {
            let mut state = self.state();
            state.clock += 1;
            let used = state.clock;
            let key = target.to_string();
            match state.hosts.get_mut(&key) {
                Some(host) => {
                    host.used = used;
                    Arc::clone(&host.destination)
                }
                None => {
                    let destination = self.make(&state.config, target)?;
                    state.make_room(&self.0.observer);
                    state.hosts.insert(key, Host { destination: Arc::clone(&destination), used });
                    destination
                }
            }
        };
        Client::at(uri, destination)
    }

    fn make(&self, config: &ClientConfig, target: Target) -> Result<Arc<Destination>> {
        let name = &self.0.name;
        let TargetKind::Address { host, port, tls } = target.kind() else {
            return Err(Error::config(format!("found {target}, expected http:// or https://")));
        };
        let endpoint = crate::discovery::Endpoint::at(host, *port);
        let config = ClientConfig { tls: TlsConfig { enabled: *tls, ..config.tls.clone() }, ..config.clone() };
        let stack = stack::outbound(&config, None, self.0.zone.as_deref(), Arc::clone(&self.0.observer))
            .map_err(|error| Error::config(format!("clients.{name}.tls.{error}")))?;
        Ok(Destination::new(name, target, &config, &StaticList::new(vec![endpoint]), stack))
    }

    /// Takes over what may change while the service runs.
    pub(super) fn configure(&self, config: &ClientConfig) {
        let mut state = self.state();
        for host in state.hosts.values() {
            host.destination.configure(config);
        }
        state.config = config.clone();
        while state.hosts.len() > state.limit() {
            state.drop_one(&self.0.observer);
        }
    }

    /// The stacks that there are, in the order of their addresses.
    pub(super) fn all(&self) -> Vec<Arc<Destination>> {
        let mut all: Vec<_> = self.state().hosts.values().map(|host| Arc::clone(&host.destination)).collect();
        all.sort_by_cached_key(|destination| destination.target().to_string());
        all
    }

    /// What all of them count together, and what was counted by those that were dropped.
    pub(super) fn levels(&self) -> ClientLevels {
        let state = self.state();
        let mut levels = state.past.clone();
        for host in state.hosts.values() {
            let of = host.destination.levels();
            add_counts(&mut levels, &of);
            levels.active += of.active;
            levels.queued += of.queued;
            of.endpoints.iter().for_each(|(word, count)| add(&mut levels.endpoints, word, *count));
        }
        let ClientLevels { destination, refused, transitions, .. } = self.0.observer.levels();
        ClientLevels { destination, refused, transitions, ..levels }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn limit(&self) -> usize {
        self.config.hosts.unwrap_or(DEFAULT_HOSTS).max(1) as usize
    }

    /// Drops the least recently used until there is room for one more.
    fn make_room(&mut self, observer: &ClientObserver) {
        while self.hosts.len() >= self.limit() {
            self.drop_one(observer);
        }
    }

    fn drop_one(&mut self, observer: &ClientObserver) {
        let oldest = self.hosts.iter().min_by_key(|(_, host)| host.used).map(|(target, _)| target.clone());
        let Some(host) = oldest.and_then(|target| self.hosts.remove(&target)) else { return };
        let destination = observer.destination();
        tracing::debug!(destination, target = %host.destination.target(), "the least recently used host is dropped");
        add_counts(&mut self.past, &host.destination.levels());
    }
}

/// Adds what only grows. What the observer counts is one for all hosts.
fn add_counts(levels: &mut ClientLevels, of: &ClientLevels) {
    of.retries.iter().for_each(|(word, count)| add(&mut levels.retries, word, *count));
    of.hedges.iter().for_each(|(word, count)| add(&mut levels.hedges, word, *count));
    of.retries_held_back.iter().for_each(|(word, count)| add(&mut levels.retries_held_back, word, *count));
    of.budget_exhausted.iter().for_each(|(word, count)| add(&mut levels.budget_exhausted, word, *count));
    for (method, cause, count) in &of.fallbacks {
        match levels.fallbacks.iter_mut().find(|known| known.0 == *method && known.1 == *cause) {
            Some(known) => known.2 += count,
            None => levels.fallbacks.push((Arc::clone(method), cause, *count)),
        }
    }
}

fn add(counts: &mut Vec<(&'static str, u64)>, word: &'static str, more: u64) {
    match counts.iter_mut().find(|(known, _)| *known == word) {
        Some((_, count)) => *count += more,
        None => counts.push((word, more)),
    }
}

impl fmt::Debug for HostClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = self.state().hosts.len();
        f.debug_struct("HostClients").field("name", &self.0.name).field("hosts", &hosts).finish_non_exhaustive()
    }
}
