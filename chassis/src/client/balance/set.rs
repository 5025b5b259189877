//! The endpoints of a destination, as one immutable value that is swapped as a whole.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use http::uri::Authority;
use tokio::sync::watch;

use super::{
    MakeEndpoint,
    census::Census,
    config::BalanceConfig,
    load::{Ewma, Gauge},
    pool::Pool,
};
use crate::discovery::{Endpoint, EndpointHealth, Freshness, Refresh, Resolution};

/// One endpoint and what is known of it, kept as long as its id and address stay.
pub(super) struct Node<S> {
    pub(super) gauge: Gauge,
    /// Since when, unless it was there from the beginning.
    pub(super) born: Option<Instant>,
    /// For [`Tried`](super::Tried); never 0.
    pub(super) number: u64,
    pub(super) authority: Authority,
    pub(super) service: S,
    /// Asks for the list anew.
    refresh: Refresh,
}

/// What a call is counted on, whatever service carries it.
pub(super) trait Gauged: Send + Sync {
    fn gauge(&self) -> &Gauge;
    /// Asks for the list anew: the endpoint may have moved.
    fn refresh(&self) -> &Refresh;
}

impl<S: Send + Sync> Gauged for Node<S> {
    fn gauge(&self) -> &Gauge {
        &self.gauge
    }

    fn refresh(&self) -> &Refresh {
        &self.refresh
    }
}

/// The endpoints of a destination.
pub(super) struct Set<S> {
    /// As it was read: it tells when there is something new.
    receiver: watch::Receiver<Resolution>,
    /// Nobody will tell anything new.
    pub(super) ended: bool,
    pub(super) resolution: Resolution,
    /// Whether there ever was a list; endpoints that come after the first are new.
    had_list: bool,
    pub(super) nodes: Box<[Arc<Node<S>>]>,
    /// Where in the resolution each is.
    pub(super) places: Box<[u32]>,
    /// The weight of each in proportion to the mean; only when they differ.
    pub(super) shares: Option<Box<[f32]>>,
    /// Whether each is in this instance's zone; only when zones matter.
    pub(super) local: Option<Box<[bool]>>,
    /// Those that the registry does not call critical; all when it calls all so.
    pub(super) usable: Pool,
    /// Those of them in this instance's zone, when zones matter.
    pub(super) home: Option<Pool>,
    pub(super) ewma: Ewma,
    pub(super) slow_start: Duration,
    pub(super) panic_threshold: f32,
    /// Who was available when somebody last looked; `None` when all were.
    pub(super) census: ArcSwapOption<Census>,
    /// Whether there is a census: cheaper to ask than the census itself.
    pub(super) degraded: AtomicBool,
}

/// What is the same for all sets of one balancer.
pub(super) struct Workshop<'a, M> {
    pub(super) make: &'a M,
    pub(super) config: &'a BalanceConfig,
    pub(super) zone: Option<&'a str>,
    pub(super) refresh: &'a Refresh,
    pub(super) epoch: Instant,
    /// The number of the last endpoint that was made.
    pub(super) made: &'a mut u64,
}

impl<S> Set<S> {
    /// Nothing read yet.
    pub(super) fn unread(receiver: watch::Receiver<Resolution>, config: &BalanceConfig) -> Self {
        Self {
            receiver,
            ended: false,
            resolution: Resolution { endpoints: Arc::default(), freshness: Freshness::Pending },
            had_list: false,
            nodes: Box::default(),
            places: Box::default(),
            shares: None,
            local: None,
            usable: Pool::default(),
            home: None,
            ewma: Ewma::new(config),
            slow_start: config.slow_start.get(),
            panic_threshold: config.panic_threshold as f32,
            census: ArcSwapOption::empty(),
            degraded: AtomicBool::new(false),
        }
    }

    /// Whether there is something new: one atomic load.
    pub(super) fn is_stale(&self) -> bool {
        self.receiver.has_changed().unwrap_or(!self.ended)
    }

    pub(super) fn is_pending(&self) -> bool {
        matches!(self.resolution.freshness, Freshness::Pending)
    }

    /// To wait for something new.
    pub(super) fn receiver(&self) -> watch::Receiver<Resolution> {
        self.receiver.clone()
    }

    /// The set of what is told now. Endpoints that stay keep their service and their load; an address has one endpoint,
    /// however often it is listed. Linear in the number of endpoints.
    pub(super) fn next<M>(&self, now: Instant, workshop: Workshop<'_, M>) -> Self
    where
        M: MakeEndpoint<Service = S>,
    {
        let Workshop { make, config, zone, refresh, epoch, made } = workshop;
        let mut receiver = self.receiver.clone();
        // Asked first: what was told before the end is read all the same.
        let ended = receiver.has_changed().is_err();
        let resolution = receiver.borrow_and_update().clone();
        let endpoints = &resolution.endpoints;
        let born = self.had_list.then_some(now);

        let told_before = || self.nodes.iter().zip(&self.places);
        let endpoint_before = |place: &u32| &self.resolution.endpoints[*place as usize];
        let before: HashMap<_, _> = told_before().map(|(node, place)| (key(endpoint_before(place)), node)).collect();
        let at_address: HashMap<_, _> =
            told_before().map(|(node, place)| (endpoint_before(place).address(), node)).collect();
        let health_before = told_before().map(|(_, place)| endpoint_before(place)).map(|it| (key(it), it.health));
        let health_before: HashMap<_, _> = health_before.collect();
        let listed: HashSet<_> = self.resolution.endpoints.iter().map(key).collect();
        let seniority = |endpoint: &Endpoint| match listed.contains(&key(endpoint)) {
            false => Seniority::New,
            true if before.contains_key(&key(endpoint)) => Seniority::InUse,
            true => Seniority::Spare,
        };
        let mut nodes = Vec::with_capacity(endpoints.len());
        let mut places = Vec::with_capacity(endpoints.len());
        for place in one_of_each_address(endpoints, seniority) {
            let endpoint = &endpoints[place as usize];
            let node = match before.get(&key(endpoint)) {
                Some(node) => {
                    let was = health_before.get(&key(endpoint));
                    if was == Some(&EndpointHealth::Critical) && endpoint.health != EndpointHealth::Critical {
                        make.recovered(&node.service);
                    }
                    Arc::clone(node)
                }
                None => {
                    let Ok(authority) = Authority::try_from(endpoint.authority()) else {
                        tracing::warn!(
                            id = %endpoint.id,
                            host = %endpoint.host,
                            "an endpoint's host is neither a name nor an address; it gets no calls"
                        );
                        continue;
                    };
                    *made += 1;
                    let service = match at_address.get(&endpoint.address()) {
                        Some(before) => make.make_successor(endpoint, &before.service),
                        None => make.make(endpoint),
                    };
                    let (gauge, refresh) = (Gauge::new(epoch), refresh.clone());
                    Arc::new(Node { gauge, born, number: *made, authority, service, refresh })
                }
            };
            nodes.push(node);
            places.push(place);
        }

        let of = |at: u32| &endpoints[places[at as usize] as usize];
        let all = || 0..places.len() as u32;
        let mut usable: Vec<u32> = all().filter(|at| of(*at).health != EndpointHealth::Critical).collect();
        if usable.is_empty() {
            usable = all().collect();
        }
        let shares = shares(&usable, places.len(), |at| of(at).weight.max(1));
        let local: Option<Vec<bool>> = zone
            .filter(|_| config.prefer_zone)
            .map(|zone| all().map(|at| of(at).zone.as_deref() == Some(zone)).collect());
        let home =
            local.as_ref().map(|local| usable.iter().copied().filter(|at| local[*at as usize]).collect::<Vec<_>>());
        // Zones matter when there is a choice.
        let home = home.filter(|home| !home.is_empty() && home.len() < usable.len());
        let local = local.filter(|_| home.is_some());
        let home = home.map(|home| Pool::new(home, shares.as_deref()));

        let fresh = Self::unread(receiver, config);
        Self {
            ended,
            had_list: self.had_list || matches!(resolution.freshness, Freshness::Fresh) || !endpoints.is_empty(),
            usable: Pool::new(usable, shares.as_deref()),
            home,
            local: local.map(Into::into),
            shares,
            nodes: nodes.into(),
            places: places.into(),
            resolution,
            ..fresh
        }
    }

    /// What the registry tells of this node.
    pub(super) fn endpoint(&self, at: usize) -> &Endpoint {
        &self.resolution.endpoints[self.places[at] as usize]
    }
}

/// How an endpoint relates to the list before; of several at one address the first is used.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Seniority {
    /// It was not listed before: who registers at an address that others hold has taken their place.
    New,
    /// It stood for its address.
    InUse,
    /// It was listed, and another stood for the address.
    Spare,
}

/// The places of the endpoints that are used, one for each address: the healthiest, then by seniority, then the first.
///
/// Two entries at one address are one process, or one that is gone and its successor: calls cannot tell them apart. So their
/// weights are not added; where a source means shares, as SRV records do, it adds them itself.
fn one_of_each_address(endpoints: &[Endpoint], seniority: impl Fn(&Endpoint) -> Seniority) -> Vec<u32> {
    let mut chosen: Vec<u32> = Vec::with_capacity(endpoints.len());
    let mut known: HashMap<_, usize> = HashMap::with_capacity(endpoints.len());
    for (place, endpoint) in endpoints.iter().enumerate() {
        match known.entry(endpoint.address()) {
            Entry::Vacant(free) => {
                free.insert(chosen.len());
                chosen.push(place as u32);
            }
            Entry::Occupied(held) => {
                let holder = &mut chosen[*held.get()];
                let rank = |endpoint: &Endpoint| (endpoint.health, seniority(endpoint));
                if rank(endpoint) < rank(&endpoints[*holder as usize]) {
                    *holder = place as u32;
                }
            }
        }
    }
    chosen
}

fn key(endpoint: &Endpoint) -> (&str, &str, u16) {
    (&endpoint.id, &endpoint.host, endpoint.port)
}

/// The weight of each in proportion to the mean of the usable ones; `None` when these are all the same.
fn shares(usable: &[u32], count: usize, weight: impl Fn(u32) -> u32) -> Option<Box<[f32]>> {
    let total: u64 = usable.iter().map(|at| u64::from(weight(*at))).sum();
    let first = weight(*usable.first()?);
    if usable.iter().all(|at| weight(*at) == first) {
        return None;
    }
    let mean = total as f64 / usable.len() as f64;
    Some((0..count as u32).map(|at| (f64::from(weight(at)) / mean) as f32).collect())
}
