//! `dns://…`: endpoints from DNS, asked for again when their time to live is over.

mod decide;
mod hosts;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
    path::Path,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, RecordType},
    },
    system_conf::read_system_conf,
};
use tokio::time::{Instant, timeout, timeout_at};

use self::{
    decide::{Service, candidates, plain, services, wait_after, wait_for, wait_when_asked},
    hosts::Hosts,
};
use super::{Endpoint, Resolver, Task, Updates};
use crate::error::{Error, Result};

/// How long a round of questions may take: 10 s, what glibc gives one server (5 s, twice; resolv.conf(5)).
const WITHIN: Duration = Duration::from_secs(10);
/// How long IPv6 addresses are waited for when the IPv4 ones are there, and the other way round. Some servers never answer
/// for the one of the two. Chosen: a lost packet is sent again within it.
const SECOND_FAMILY: Duration = Duration::from_secs(1);
/// How many targets of SRV records are asked for at the same time. Chosen: a burst that no server drops.
const AT_ONCE: usize = 16;
/// How often the file of the system's own names is looked at: reading it takes microseconds, and a change is seen about as soon
/// as one in DNS.
const HOSTS_EVERY: Duration = Duration::from_secs(5);
/// Where a target's own name is found, for people: the endpoint's host is its address.
const SRV_TARGET: &str = "srv_target";

/// Follows a name in DNS.
///
/// With a port it is the name's addresses (A and AAAA), all of them. Without one it is the name's SRV records (RFC 2782):
/// the targets of the lowest priority that has any, with their ports, and weights in their proportion; the addresses of the
/// targets are asked for too, and an endpoint's host is always an address.
///
/// It asks again when the shortest time to live is over: after 1 s at least, 5 min at most, and up to a tenth later, so that
/// instances do not ask in step. A time to live of zero says nothing about how often to ask: that is every 5 s. Nothing is
/// cached beside that.
///
/// The list becomes empty only when the server says that there is none: NXDOMAIN or no such records, with the SOA record
/// that makes a negative answer binding (RFC 2308). NXDOMAIN without it makes the next name of the search list be tried, and
/// does not make the list empty. Whatever else goes wrong is [`Updates::lost`], at most 10 s after the
/// question ([`within`](Self::within)), and the last list stays. It asks again after 1 s at first, 30 s at most.
///
/// When a connection to one of the endpoints fails it asks again at once, 5 s after the last question at the earliest.
///
/// A name that `/etc/hosts` has, as it is written, has the addresses there and no others, as `getent` has it: no server and no
/// search domain is asked. The targets of SRV records are looked up the same way. A change of the file is seen within 5 s.
/// Servers, search domains and `ndots` are those of `/etc/resolv.conf`, which is read again after a failure. When a server is
/// given, it alone is asked, for the name as it is.
#[derive(Clone)]
pub struct DnsResolver {
    name: Name,
    /// The name as it was given.
    text: Arc<str>,
    port: Option<u16>,
    nameserver: Option<SocketAddr>,
    /// The file of the system's own names, when it counts.
    hosts: Option<Arc<Path>>,
    within: Duration,
}

impl DnsResolver {
    /// Follows the addresses of this name when there is a port, its SRV records otherwise; asks this server, or those of the
    /// system.
    ///
    /// # Errors
    ///
    /// The name is no name that DNS can hold, or an address without a port.
    pub fn new(name: &str, port: Option<u16>, nameserver: Option<SocketAddr>) -> Result<Self> {
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        if address.is_ok() {
            return Err(Error::config(format!(
                "found the address {name:?}, expected a name for DNS to look up; write static://{name}:{}",
                port.map_or_else(|| "8080".to_owned(), |port| port.to_string())
            )));
        }
        let parsed = Name::from_str_relaxed(name).ok().filter(|name| name.num_labels() > 0);
        let Some(parsed) = parsed else {
            return Err(Error::config(format!(
                "found {name:?}, expected a name for DNS to look up, such as inventory.internal or \
                 _http._tcp.inventory.internal"
            )));
        };
        let hosts = nameserver.is_none().then(|| Path::new(hosts::PATH).into());
        Ok(Self { name: parsed, text: name.into(), port, nameserver, hosts, within: WITHIN })
    }

    /// How long a round of questions may take before the source counts as lost. Default 10 s.
    #[must_use]
    pub fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    async fn run(&self, updates: &Updates) {
        let mut known = Known::default();
        let mut hosts = self.hosts.clone().map(Hosts::new);
        let mut servers = None;
        let mut failures = 0;
        loop {
            let begun = Instant::now();
            if let Some(hosts) = &mut hosts {
                hosts.read().await;
            }
            let wait = match self.round(&mut servers, &mut known, hosts.as_ref()).await {
                Ok((endpoints, ttl)) => {
                    let wait = wait_for(ttl, endpoints.is_empty(), fastrand::f64());
                    updates.set(endpoints);
                    failures = 0;
                    wait
                }
                Err(reason) => {
                    // The system's servers may have changed meanwhile.
                    servers = None;
                    failures += 1;
                    updates.lost(Instant::now().into_std(), format_args!("DNS, {}: {reason}", self.name));
                    wait_after(failures, fastrand::f64())
                }
            };
            rest(updates, begun, wait, hosts.as_mut()).await;
        }
    }

    /// The list now, and how long it may be kept.
    async fn round(&self, servers: &mut Option<Servers>, known: &mut Known, hosts: Option<&Hosts>) -> Round {
        let own = hosts.and_then(|hosts| hosts.addresses(&self.text));
        if let (Some(port), Some(addresses)) = (self.port, own) {
            // Kept until the file changes.
            return Ok((plain(addresses, port), Some(Duration::MAX)));
        }
        let until = Instant::now() + self.within;
        let servers = match servers {
            Some(servers) => servers,
            None => servers.insert(Servers::of(self.nameserver, self.within).await?),
        };
        known.begin();
        let found = match self.port {
            Some(port) => addresses_of(servers, &self.name, until, known)
                .await
                .map(|(addresses, ttl)| (plain(&addresses, port), ttl)),
            None => self.services(servers, until, known, hosts).await,
        };
        if found.is_ok() {
            known.end();
        }
        found
    }

    /// The endpoints of the SRV records.
    async fn services(&self, servers: &Servers, until: Instant, known: &mut Known, hosts: Option<&Hosts>) -> Round {
        let mut shortest = None;
        let mut unbound = None;
        for name in servers.candidates(&self.name) {
            let (records, ttl) = match servers.ask(&name, RecordType::SRV, until).await {
                Said::Found(found) => (found.services, found.ttl),
                Said::Nothing(ttl) => {
                    shortest = shorter(shortest, ttl);
                    continue;
                }
                Said::Unbound(reason) => {
                    unbound = Some(reason);
                    continue;
                }
                Said::Failed(reason) => return Err(reason),
            };
            let records = records.into_iter().map(|record| with_own(record, hosts)).collect();
            return self.targets(servers, records, ttl, until, known).await;
        }
        unbound.map_or(Ok((Vec::new(), shortest)), Err)
    }

    async fn targets(
        &self,
        servers: &Servers,
        mut records: Vec<Service>,
        ttl: Duration,
        until: Instant,
        known: &mut Known,
    ) -> Round {
        // A target of "." says: decidedly not available at this domain (RFC 2782).
        records.retain(|service| !service.target.is_root());
        records.sort_by_key(|service| service.priority);
        let mut shortest = Some(ttl);
        let mut failed = None;
        let mut rest = records.as_mut_slice();
        while let Some(first) = rest.first() {
            let priority = first.priority;
            let length = rest.iter().take_while(|service| service.priority == priority).count();
            let (same, later) = rest.split_at_mut(length);
            rest = later;
            for some in same.chunks_mut(AT_ONCE) {
                let questions = some.iter().map(|service| async {
                    if service.addresses.is_empty() { Some(servers.both(&service.target, until).await) } else { None }
                });
                for (service, answers) in some.iter().zip(all(questions).await) {
                    let Some(answers) = answers else { continue };
                    known.hear(&service.target, answers);
                }
            }
            for service in same.iter_mut().filter(|service| service.addresses.is_empty()) {
                match known.addresses(&service.target) {
                    Ok((addresses, ttl)) => {
                        service.addresses = addresses;
                        shortest = shorter(shortest, ttl);
                    }
                    Err(unknown) => failed = Some(unknown.reason),
                }
            }
            let endpoints = services(same);
            if !endpoints.is_empty() {
                return Ok((endpoints, shortest));
            }
        }
        failed.map_or(Ok((Vec::new(), shortest)), Err)
    }
}

impl Resolver for DnsResolver {
    fn follow(&self, updates: Updates) -> Task {
        let resolver = self.clone();
        Box::pin(async move { resolver.run(&updates).await })
    }
}

impl fmt::Debug for DnsResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsResolver")
            .field("name", &format_args!("{}", self.name))
            .field("port", &self.port)
            .field("nameserver", &self.nameserver)
            .finish_non_exhaustive()
    }
}

/// Waits for the time of the next round: when this wait is over, earlier when a connection has failed or the file of the
/// system's own names has changed.
async fn rest(updates: &Updates, begun: Instant, wait: Duration, mut hosts: Option<&mut Hosts>) {
    let end = Instant::now() + wait;
    let mut asked = pin!(async {
        updates.asked().await;
        tokio::time::sleep_until(begun + wait_when_asked(fastrand::f64())).await;
    });
    loop {
        let now = Instant::now();
        let look = if hosts.is_some() { end.min(now + HOSTS_EVERY) } else { end };
        tokio::select! {
            () = &mut asked => return,
            () = tokio::time::sleep_until(look) => {}
        }
        if look == end {
            return;
        }
        if let Some(hosts) = &mut hosts
            && hosts.read().await
        {
            return;
        }
    }
}

/// The record with the addresses that the system's own names have for its target.
fn with_own(mut record: Service, hosts: Option<&Hosts>) -> Service {
    let name = record.target.to_string();
    if let Some(addresses) = hosts.and_then(|hosts| hosts.addresses(name.trim_end_matches('.'))) {
        record.addresses = addresses.to_vec();
    }
    record
}

/// The endpoints and the shortest time to live, or why they are not to be had.
type Round = Result<(Vec<Endpoint>, Option<Duration>), String>;

/// What one question came to.
enum Said {
    Found(Found),
    /// There is none, says one who must know, for so long.
    Nothing(Option<Duration>),
    /// There is no such name, without the SOA record that would say for how long.
    Unbound(String),
    Failed(String),
}

#[derive(Default)]
struct Found {
    addresses: Vec<IpAddr>,
    services: Vec<Service>,
    ttl: Duration,
}

/// What the two kinds of addresses came to.
struct Both([Said; 2]);

/// The addresses of a name.
async fn addresses_of(
    servers: &Servers,
    name: &Name,
    until: Instant,
    known: &mut Known,
) -> Result<(Vec<IpAddr>, Option<Duration>), String> {
    let mut shortest = None;
    let mut unbound = None;
    for name in servers.candidates(name) {
        known.hear(&name, servers.both(&name, until).await);
        match known.addresses(&name) {
            Ok((addresses, ttl)) if addresses.is_empty() => shortest = shorter(shortest, ttl),
            Ok(found) => return Ok(found),
            Err(unknown) if unknown.may_pass => unbound = Some(unknown.reason),
            // A name that is not answered for is not passed over: the next one may be another service's.
            Err(unknown) => return Err(unknown.reason),
        }
    }
    unbound.map_or(Ok((Vec::new(), shortest)), Err)
}

/// The servers that are asked.
#[derive(Clone)]
struct Servers {
    resolver: TokioResolver,
    search: Vec<Name>,
    ndots: usize,
}

impl Servers {
    async fn of(nameserver: Option<SocketAddr>, within: Duration) -> Result<Self, String> {
        // It reads files.
        let made = tokio::task::spawn_blocking(move || Self::make(nameserver, within)).await;
        made.map_err(|_| "the program is stopping".to_owned())?.map_err(|error| format!("/etc/resolv.conf: {error}"))
    }

    fn make(nameserver: Option<SocketAddr>, within: Duration) -> Result<Self, NetError> {
        let (config, mut options) = match nameserver {
            None => read_system_conf()?,
            Some(server) => {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
                let connections = connections.map(|mut connection| {
                    connection.port = server.port();
                    connection
                });
                let server = NameServerConfig::new(server.ip(), true, connections.into());
                let options = ResolverOpts::default();
                (ResolverConfig::from_parts(None, Vec::new(), vec![server]), options)
            }
        };
        // The name of this machine's domain counts when nothing is to be searched (resolv.conf(5)).
        let mut search = config.search().to_vec();
        if search.is_empty() {
            search.extend(config.domain().cloned());
        }
        let ndots = options.ndots;
        // It would look there for each name that the search makes. The name that was given was looked up before.
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = 0;
        options.attempts = options.attempts.clamp(1, 4);
        let attempts = u32::try_from(options.attempts).unwrap_or(4) + 1;
        options.timeout = options.timeout.min(within / attempts);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        Ok(Self { resolver: builder.build()?, search, ndots })
    }

    fn candidates(&self, name: &Name) -> Vec<Name> {
        candidates(name, &self.search, self.ndots)
    }

    /// Asks for the addresses of both kinds. When the ones are there, the others are not waited for for long.
    async fn both(&self, name: &Name, until: Instant) -> Both {
        async fn second(first: &Said, question: impl Future<Output = Said>) -> Said {
            if !matches!(first, Said::Found(_)) {
                return question.await;
            }
            timeout(SECOND_FAMILY, question).await.unwrap_or_else(|_| Said::Failed("no answer".to_owned()))
        }
        let mut v4 = pin!(self.ask(name, RecordType::A, until));
        let mut v6 = pin!(self.ask(name, RecordType::AAAA, until));
        Both(tokio::select! {
            biased;
            said = &mut v4 => { let other = second(&said, v6).await; [said, other] }
            said = &mut v6 => { let other = second(&said, v4).await; [other, said] }
        })
    }

    async fn ask(&self, name: &Name, kind: RecordType, until: Instant) -> Said {
        let answer = timeout_at(until, self.resolver.lookup(name.clone(), kind)).await;
        let lookup = match answer {
            Ok(Ok(lookup)) => lookup,
            Ok(Err(NetError::Dns(DnsError::NoRecordsFound(none)))) => {
                if none.soa.is_none() {
                    let reason = format!("{name} {kind}: {} without an SOA record", none.response_code);
                    // An answer without records may come from a server that does not know better; this says that it does.
                    let no_such_name = none.response_code == ResponseCode::NXDomain;
                    return if no_such_name { Said::Unbound(reason) } else { Said::Failed(reason) };
                }
                return Said::Nothing(none.negative_ttl.map(|seconds| Duration::from_secs(seconds.into())));
            }
            Ok(Err(error)) => return Said::Failed(format!("{name} {kind}: {error}")),
            Err(_) => return Said::Failed(format!("{name} {kind}: no answer")),
        };
        let mut found = Found { ttl: Duration::MAX, ..Found::default() };
        for record in lookup.answers() {
            found.ttl = found.ttl.min(Duration::from_secs(record.ttl.into()));
            match &record.data {
                RData::A(address) => found.addresses.push(IpAddr::V4(address.0)),
                RData::AAAA(address) => found.addresses.push(IpAddr::V6(address.0)),
                RData::SRV(service) => found.services.push(Service::new(service)),
                _ => {}
            }
        }
        // A set of records is there as a whole or not at all (RFC 2181, section 9).
        for service in &mut found.services {
            for record in lookup.additionals().iter().filter(|record| record.name == service.target) {
                if let Some(address) = record.data.ip_addr() {
                    service.addresses.push(address);
                    found.ttl = found.ttl.min(Duration::from_secs(record.ttl.into()));
                }
            }
        }
        if found.addresses.is_empty() && found.services.is_empty() {
            return Said::Failed(format!("{name} {kind}: an answer without such a record"));
        }
        Said::Found(found)
    }
}

/// What is known of the addresses of each name, so that one question without an answer takes nothing away.
#[derive(Default)]
struct Known {
    names: HashMap<Name, [Addresses; 2]>,
    round: u64,
}

#[derive(Default)]
struct Addresses {
    last: Option<Vec<IpAddr>>,
    ttl: Option<Duration>,
    /// Why the last question had no answer.
    failed: Option<Unknown>,
    round: u64,
}

/// Why the addresses of a name are not known.
#[derive(Clone)]
struct Unknown {
    reason: String,
    /// Whether another name may be tried in its place.
    may_pass: bool,
}

impl Known {
    fn begin(&mut self) {
        self.round += 1;
    }

    /// Forgets what was not asked for in this round.
    fn end(&mut self) {
        let round = self.round;
        self.names.retain(|_, both| both.iter().any(|addresses| addresses.round == round));
    }

    fn hear(&mut self, name: &Name, Both(both): Both) {
        let entry = self.names.entry(name.clone()).or_default();
        for (addresses, said) in entry.iter_mut().zip(both) {
            addresses.round = self.round;
            addresses.failed = None;
            match said {
                Said::Found(found) => {
                    addresses.last = Some(found.addresses);
                    addresses.ttl = Some(found.ttl);
                }
                Said::Nothing(ttl) => {
                    addresses.last = None;
                    addresses.ttl = ttl;
                }
                Said::Unbound(reason) => addresses.failed = Some(Unknown { reason, may_pass: true }),
                Said::Failed(reason) => addresses.failed = Some(Unknown { reason, may_pass: false }),
            }
        }
    }

    /// All addresses of a name with the shortest time to live of those that were found; that of the negative answer when
    /// there is none. An error when nothing was answered, or only that there is none of one kind.
    ///
    /// A name that had addresses is not passed over: it is the one that is meant.
    fn addresses(&self, name: &Name) -> Result<(Vec<IpAddr>, Option<Duration>), Unknown> {
        let Some(both) = self.names.get(name) else {
            return Err(Unknown { reason: format!("{name}: no answer"), may_pass: false });
        };
        let answered = both.iter().any(|addresses| addresses.failed.is_none() && addresses.last.is_some());
        let failed = || both.iter().filter_map(|addresses| addresses.failed.as_ref());
        if let Some(one) = failed().next().filter(|_| !answered) {
            let had = both.iter().any(|addresses| addresses.last.is_some());
            return Err(Unknown { may_pass: !had && failed().all(|unknown| unknown.may_pass), ..one.clone() });
        }
        let all: Vec<IpAddr> = both.iter().flat_map(|addresses| addresses.last.iter().flatten().copied()).collect();
        let found = |addresses: &&Addresses| all.is_empty() || addresses.last.is_some();
        let ttl = both.iter().filter(found).fold(None, |ttl, addresses| shorter(ttl, addresses.ttl));
        Ok((all, ttl))
    }
}

fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Drives these futures to their ends, side by side.
async fn all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<(usize, Pin<Box<F>>)> = futures.map(Box::pin).enumerate().collect();
    let mut done: Vec<(usize, F::Output)> = Vec::with_capacity(running.len());
    std::future::poll_fn(|context| {
        running.retain_mut(|(index, future)| match future.as_mut().poll(context) {
            std::task::Poll::Ready(output) => {
                done.push((*index, output));
                false
            }
            std::task::Poll::Pending => true,
        });
        if running.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, output)| output).collect()
}
