//! Whether the settings of Consul and of this instance's own registration make sense. The settings alone decide, so it is told
//! with their mistakes: at start, by `config check`, and when they change while the service runs. The certificates' files are
//! looked at for it.

use std::collections::BTreeMap;

use super::Mistake;
use crate::{
    client::ClientConfig,
    consul::{Consul, ConsulConfig, agent, client},
    discovery::{
        DiscoveryConfig, RegistryKind, Target, TargetKind,
        registration::{self, Bound, Loopback},
    },
    server::address::is_host_name, // floor: settings are values, and lie below
    settings::ServiceConfig,       // floor: settings are values, and lie below
};

/// What the rules look at.
pub(crate) struct Announced<'a> {
    pub(crate) consul: &'a ConsulConfig,
    pub(crate) discovery: &'a DiscoveryConfig,
    pub(crate) service: &'a ServiceConfig,
    pub(crate) clients: &'a BTreeMap<String, ClientConfig>,
    /// `http.address`.
    pub(crate) http: &'a str,
    /// Whether the profile is that of a developer's machine.
    pub(crate) dev: bool,
}

impl Announced<'_> {
    fn uses_consul(&self) -> bool {
        let registered = self.discovery.register == RegistryKind::Consul;
        let asks = |client: &ClientConfig| match &client.target {
            Some(target) => {
                target.parse::<Target>().is_ok_and(|target| matches!(target.kind(), TargetKind::Consul { .. }))
            }
            None => registered,
        };
        registered || self.consul.kv.enabled || self.clients.values().any(asks)
    }
}

/// All mistakes: the key, and what is wrong.
pub(crate) fn announced(facts: &Announced<'_>) -> Vec<Mistake> {
    let mut mistakes = match facts.uses_consul() {
        true => Consul::mistakes(facts.consul),
        // What is not used may be anything but a password that is shown to everybody.
        false if facts.consul.address.contains('@') => Consul::mistakes(facts.consul),
        false => Vec::new(),
    };
    if facts.discovery.register != RegistryKind::None {
        mistakes.extend(registration::check_metadata(facts.discovery));
        mistakes.extend(host(facts));
        mistakes.extend(host_is_none(facts.discovery));
        if facts.discovery.register == RegistryKind::Consul {
            mistakes.extend(names(facts));
        }
    }
    mistakes
}

/// What Consul would refuse of the names, as far as the settings say them. The start looks at all of them.
fn names(facts: &Announced<'_>) -> Vec<Mistake> {
    let mut pairs = facts.discovery.metadata.clone();
    // The chassis's own pairs count too; those that no setting says are short enough.
    for key in ["version", "protocol", "instance"] {
        pairs.entry(key.to_owned()).or_default();
    }
    if let Some(id) = &facts.service.instance_id {
        pairs.insert("instance".to_owned(), id.clone());
    }
    if let Some(zone) = &facts.discovery.zone {
        pairs.insert("zone".to_owned(), zone.clone());
    }
    // A package's name is one that Consul takes.
    agent::check_names(facts.service.name.as_deref().unwrap_or("service"), &pairs)
}

/// A URL or a port where a host belongs: `discovery.port` has the port.
fn host_is_none(discovery: &DiscoveryConfig) -> Option<Mistake> {
    let host = discovery.host.as_deref().filter(|host| !host.is_empty())?;
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if address.parse::<std::net::IpAddr>().is_ok() || is_host_name(host) {
        return None;
    }
    let message = format!(
        "found {host:?}, expected a host or an address alone, such as \"orders.internal\"; discovery.port has the port"
    );
    Some(("discovery.host".to_owned(), message))
}

/// Where others are to reach this instance, as far as it is known before it listens.
fn host(facts: &Announced<'_>) -> Option<Mistake> {
    let bound = Bound::of(facts.http)?;
    if bound == Bound::Unix && facts.discovery.port.is_none() {
        return Some(registration::no_port());
    }
    let configured = facts.discovery.host.as_deref();
    let checked = match facts.discovery.register {
        RegistryKind::Consul => {
            let at = client::address(facts.consul).ok()?;
            let loopback = if facts.dev { Loopback::Suffices } else { Loopback::MustBeMeant };
            registration::host(configured, bound.ip(), (&at.host.0, at.host.1), loopback)
        }
        RegistryKind::Memory => registration::host(configured, bound.ip(), ("localhost", 0), Loopback::Suffices),
        RegistryKind::None => return None,
    };
    checked.err()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(change: impl Fn(&mut ConsulConfig, &mut DiscoveryConfig), http: &str) -> Vec<String> {
        let (mut consul, mut discovery) = (ConsulConfig::default(), DiscoveryConfig::default());
        discovery.register = RegistryKind::Consul;
        change(&mut consul, &mut discovery);
        let (service, clients) = (ServiceConfig::default(), BTreeMap::new());
        let facts = Announced {
            consul: &consul,
            discovery: &discovery,
            service: &service,
            clients: &clients,
            http,
            dev: false,
        };
        announced(&facts).into_iter().map(|(key, _)| key).collect()
    }

    #[cfg(feature = "tls")]
    #[test]
    fn every_mistake_of_the_agents_settings_is_told_at_once() {
        let keys = found(
            |consul, discovery| {
                consul.address = "https://consul:8501".to_owned();
                consul.tls.ca = Some("no-such-file.pem".into());
                consul.token = Some("two\nlines".to_owned().into());
                discovery.metadata.insert("zone".to_owned(), String::new());
                discovery.host = Some("0.0.0.0".to_owned());
            },
            "0.0.0.0:8080",
        );
        assert_eq!(keys, ["consul.tls.ca", "consul.token", "discovery.metadata.zone", "discovery.host"]);
    }

    #[test]
    fn what_uses_no_consul_is_told_of_a_password_in_its_address_only() {
        let wrong = |address: &str| {
            let set = |consul: &mut ConsulConfig, discovery: &mut DiscoveryConfig| {
                consul.address = address.to_owned();
                discovery.register = RegistryKind::None;
            };
            found(set, "0.0.0.0:8080")
        };
        assert_eq!(wrong("ftp://a:1"), Vec::<String>::new());
        assert_eq!(wrong("http://user:pass@consul:8500"), ["consul.address"]);
    }

    #[test]
    fn settings_from_consul_and_a_target_there_use_it() {
        let wrong = ConsulConfig { address: "ftp://a:1".to_owned(), ..ConsulConfig::default() };
        let kv = crate::consul::KvConfig { enabled: true, ..crate::consul::KvConfig::default() };
        let client = ClientConfig { target: Some("consul://inventory".to_owned()), ..ClientConfig::default() };
        for (consul, clients) in [
            (ConsulConfig { kv, ..wrong.clone() }, BTreeMap::new()),
            (wrong, BTreeMap::from([("inventory".to_owned(), client)])),
        ] {
            let discovery = DiscoveryConfig::default();
            let facts = Announced {
                consul: &consul,
                discovery: &discovery,
                service: &ServiceConfig::default(),
                clients: &clients,
                http: "0.0.0.0:8080",
                dev: false,
            };
            assert_eq!(announced(&facts).len(), 1);
        }
    }

    #[test]
    fn an_address_or_a_port_that_nobody_reaches_is_told_before_it_is_listened_on() {
        let nothing = |_: &mut ConsulConfig, _: &mut DiscoveryConfig| {};
        assert_eq!(found(nothing, "127.0.0.1:8080"), ["http.address"]);
        assert_eq!(found(nothing, "unix:/run/orders.sock"), ["discovery.port"]);
        let there = |_: &mut ConsulConfig, discovery: &mut DiscoveryConfig| discovery.port = Some(80);
        assert_eq!(found(there, "unix:/run/orders.sock"), ["discovery.host"]);
        assert_eq!(found(nothing, "orders.internal:8080"), Vec::<String>::new(), "known when it listens");
    }
}
