//! What follows from records: endpoints, and when to ask again. Pure: chance is an argument.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use hickory_resolver::proto::rr::{Name, rdata::SRV};

use super::{
    super::{Endpoint, REFRESH_APART},
    SRV_TARGET,
};

/// Chosen: a server is never asked in a hurry, and a change is seen about as soon as DNS can tell one.
const SHORTEST: Duration = Duration::from_secs(1);
/// Chosen: an address that was taken out before its time to live was over is still left within minutes.
const LONGEST: Duration = Duration::from_secs(300);
/// A time to live of zero forbids to keep an answer and says nothing about how often to ask (RFC 1035, section 3.2.1): as
/// often as Envoy's clusters do by default.
const UNKEPT: Duration = Duration::from_secs(5);
/// How long an empty list is believed. Chosen: a first instance gets its calls soon, whatever the zone's SOA record says.
const LONGEST_EMPTY: Duration = Duration::from_secs(30);
/// The part of the wait that is added by chance, so that instances do not ask in step.
const JITTER: f64 = 0.1;
/// The first and the longest wait after a failure. 1 s as gRPC's connection back-off; 30 s as gRPC's clients leave between
/// two questions to DNS.
const FIRST_AGAIN: Duration = Duration::from_secs(1);
const LONGEST_AGAIN: Duration = Duration::from_secs(30);
/// The finest share in which the weight of a target is split among its addresses.
const FINEST: u64 = 10_000;

/// When to ask again after an answer; `random` is from 0 to 1. Never before the time to live is over: a cache on the way
/// would only tell the rest of it.
pub(super) fn wait_for(ttl: Option<Duration>, empty: bool, random: f64) -> Duration {
    let ttl = ttl.unwrap_or(UNKEPT);
    let ttl = if ttl.is_zero() { UNKEPT } else { ttl };
    let longest = if empty { LONGEST_EMPTY } else { LONGEST };
    ttl.clamp(SHORTEST, longest).mul_f64(1.0 + JITTER * random.clamp(0.0, 1.0))
}

/// The least time from one round to the next that a failing connection asks for.
pub(super) fn wait_when_asked(random: f64) -> Duration {
    REFRESH_APART.mul_f64(1.0 + JITTER * random.clamp(0.0, 1.0))
}

/// When to ask again after this many failures in a row: between half of a doubling wait and the whole.
pub(super) fn wait_after(failures: u32, random: f64) -> Duration {
    let factor = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    let wait = FIRST_AGAIN.saturating_mul(factor).min(LONGEST_AGAIN);
    wait.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
}

/// The names that a name may stand for, in the order they are tried (resolv.conf(5)): with as many dots as `ndots`, itself
/// comes before the search domains, otherwise after. A name that ends with a dot is itself alone.
pub(super) fn candidates(name: &Name, search: &[Name], ndots: usize) -> Vec<Name> {
    let mut itself = name.clone();
    itself.set_fqdn(true);
    if name.is_fqdn() {
        return vec![itself];
    }
    let dots = usize::from(name.num_labels()).saturating_sub(1);
    let mut names = Vec::with_capacity(search.len() + 1);
    for domain in search {
        // A name that becomes too long is none.
        let Ok(mut long) = name.clone().append_domain(domain) else { continue };
        long.set_fqdn(true);
        if !names.contains(&long) {
            names.push(long);
        }
    }
    names.retain(|other| *other != itself);
    names.insert(if dots >= ndots { 0 } else { names.len() }, itself);
    names
}

/// The endpoints of addresses that have a port in common; in order, since servers turn theirs round.
pub(super) fn plain(addresses: &[IpAddr], port: u16) -> Vec<Endpoint> {
    let mut addresses: Vec<_> = addresses.iter().map(IpAddr::to_canonical).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.into_iter().map(|address| Endpoint::at(&address.to_string(), port)).collect()
}

/// One SRV record, with the addresses of its target as far as they are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    pub(super) target: Name,
    pub(super) addresses: Vec<IpAddr>,
}

impl Service {
    pub(super) fn new(record: &SRV) -> Self {
        Self {
            priority: record.priority,
            weight: record.weight,
            port: record.port,
            target: record.target.clone(),
            addresses: Vec::new(),
        }
    }
}

/// The endpoints of records of the same priority: the weight of a target is split among its addresses. A weight of zero
/// counts as one: little beside others, the same as others that are zero.
pub(super) fn services(records: &[Service]) -> Vec<Endpoint> {
    let parts: Vec<u64> =
        records.iter().map(|record| record.addresses.len() as u64).filter(|&parts| parts > 0).collect();
    let whole = parts.iter().fold(1, |whole, &part| least_common_multiple(whole, part).min(FINEST));
    let mut found: BTreeMap<(IpAddr, u16), (u64, &Name)> = BTreeMap::new();
    for record in records {
        let parts = record.addresses.len() as u64;
        for &address in &record.addresses {
            let share = (u64::from(record.weight.max(1)) * whole / parts).max(1);
            found.entry((address.to_canonical(), record.port)).or_insert((0, &record.target)).0 += share;
        }
    }
    let common = found.values().fold(0, |common, (weight, _)| greatest_common_divisor(common, *weight)).max(1);
    let endpoint = |((address, port), (weight, target)): ((IpAddr, u16), (u64, &Name))| {
        let mut endpoint = Endpoint::at(&address.to_string(), port);
        endpoint.weight = u32::try_from(weight / common).unwrap_or(u32::MAX);
        endpoint.metadata = Arc::new(BTreeMap::from([(SRV_TARGET.to_owned(), target.to_string())]));
        endpoint
    };
    found.into_iter().map(endpoint).collect()
}

fn greatest_common_divisor(one: u64, other: u64) -> u64 {
    if other == 0 { one } else { greatest_common_divisor(other, one % other) }
}

fn least_common_multiple(one: u64, other: u64) -> u64 {
    one / greatest_common_divisor(one, other) * other
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_str_relaxed(text).unwrap()
    }

    fn texts(names: &[Name]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn service(weight: u16, port: u16, addresses: &[&str]) -> Service {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Service { priority: 1, weight, port, target: name("a.internal."), addresses }
    }

    fn weights(records: &[Service]) -> Vec<(String, u32)> {
        services(records).iter().map(|endpoint| (endpoint.authority(), endpoint.weight)).collect()
    }

    #[test]
    fn it_is_asked_again_when_the_time_to_live_is_over_and_up_to_a_tenth_later() {
        let seconds = |ttl, empty, random| wait_for(Some(Duration::from_secs(ttl)), empty, random).as_secs_f64();
        assert_eq!(seconds(60, false, 0.0), 60.0);
        assert_eq!(seconds(60, false, 1.0), 66.0);
        assert_eq!(seconds(0, false, 0.0), 5.0, "zero is not a rate");
        assert_eq!(seconds(86_400, false, 0.0), 300.0);
        assert_eq!(seconds(86_400, true, 0.0), 30.0, "an empty list is not believed for long");
        assert_eq!(wait_for(None, true, 0.0).as_secs_f64(), 5.0);
        assert_eq!(wait_for(Some(Duration::from_millis(1)), false, 0.0).as_secs_f64(), 1.0);
    }

    #[test]
    fn the_wait_after_failures_doubles_up_to_half_a_minute() {
        for (failures, longest) in [(1, 1), (2, 2), (5, 16), (6, 30), (u32::MAX, 30)] {
            let longest = Duration::from_secs(longest);
            assert_eq!(wait_after(failures, 1.0), longest, "{failures} failures");
            assert_eq!(wait_after(failures, 0.0), longest / 2, "{failures} failures");
        }
    }

    #[test]
    fn search_domains_come_before_a_name_with_few_dots_and_after_one_with_many() {
        let search = [name("shop.svc.cluster.local"), name("cluster.local")];
        assert_eq!(
            texts(&candidates(&name("inventory"), &search, 1)),
            ["inventory.shop.svc.cluster.local.", "inventory.cluster.local.", "inventory."]
        );
        assert_eq!(
            texts(&candidates(&name("inventory.shop"), &search, 1)),
            ["inventory.shop.", "inventory.shop.shop.svc.cluster.local.", "inventory.shop.cluster.local."]
        );
        assert_eq!(texts(&candidates(&name("inventory.shop"), &search, 5))[2], "inventory.shop.");
        assert_eq!(texts(&candidates(&name("inventory.shop."), &search, 5)), ["inventory.shop."]);
    }

    #[test]
    fn addresses_are_told_in_one_order_and_once() {
        let addresses =
            ["10.0.0.2", "::1", "10.0.0.1", "10.0.0.2", "::ffff:10.0.0.1"].map(|address| address.parse().unwrap());
        let endpoints: Vec<String> = plain(&addresses, 80).iter().map(Endpoint::authority).collect();
        assert_eq!(endpoints, ["10.0.0.1:80", "10.0.0.2:80", "[::1]:80"]);
    }

    #[test]
    fn weights_keep_their_proportion() {
        let records = [service(10, 80, &["10.0.0.1"]), service(30, 81, &["10.0.0.2"]), service(0, 82, &["10.0.0.3"])];
        assert_eq!(
            weights(&records),
            [("10.0.0.1:80".to_owned(), 10), ("10.0.0.2:81".to_owned(), 30), ("10.0.0.3:82".to_owned(), 1)]
        );
        let zero = [service(0, 80, &["10.0.0.1"]), service(0, 81, &["10.0.0.2"])];
        assert!(weights(&zero).iter().all(|(_, weight)| *weight == 1));
    }

    #[test]
    fn a_target_with_more_addresses_gets_no_more_than_its_weight() {
        let records = [service(1, 80, &["10.0.0.1", "10.0.0.2", "10.0.0.3"]), service(1, 80, &["10.0.0.4", "::4"])];
        let weights: Vec<u32> = weights(&records).into_iter().map(|(_, weight)| weight).collect();
        assert_eq!(weights, [2, 2, 2, 3, 3]);
    }

    #[test]
    fn an_address_that_two_targets_have_is_one_endpoint_with_both_weights() {
        let records = [service(1, 80, &["10.0.0.1"]), service(2, 80, &["10.0.0.1"]), service(1, 80, &["10.0.0.2"])];
        assert_eq!(weights(&records), [("10.0.0.1:80".to_owned(), 3), ("10.0.0.2:80".to_owned(), 1)]);
    }
}
