mod pick;
mod service;
mod simulation;
mod update;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::{
    Available, MakeEndpoint,
    config::BalanceConfig,
    set::{Set, Workshop},
};
use crate::discovery::{Endpoint, Refresh, Updates};

/// A breaker that a test opens and closes.
#[derive(Debug, Clone, Default)]
struct Gate(Arc<GateState>);

#[derive(Debug, Default)]
struct GateState {
    /// It was made for an endpoint at the address of another one.
    succeeds: bool,
    /// The registry called its endpoint critical, and does no more.
    recovered: AtomicBool,
    open: AtomicBool,
    unreachable: AtomicBool,
    /// How long the next wait is, in seconds.
    wait: AtomicU32,
    capped: AtomicBool,
}

impl Gate {
    fn open(&self) {
        self.0.open.store(true, Relaxed);
    }

    fn close(&self) {
        self.0.open.store(false, Relaxed);
    }
}

struct Gates;

impl MakeEndpoint for Gates {
    type Service = Gate;

    fn make(&self, _: &Endpoint) -> Gate {
        Gate::default()
    }

    fn make_successor(&self, _: &Endpoint, _: &Gate) -> Gate {
        Gate(Arc::new(GateState { succeeds: true, ..GateState::default() }))
    }

    fn recovered(&self, gate: &Gate) {
        gate.0.recovered.store(true, Relaxed);
    }
}

impl Available for Gate {
    fn is_available(&self, _: Instant) -> bool {
        !self.0.open.load(Relaxed)
    }

    fn wait(&self, _: Instant) -> Option<Duration> {
        let seconds = if self.0.capped.load(Relaxed) { 1 } else { self.0.wait.load(Relaxed) };
        self.0.open.load(Relaxed).then(|| Duration::from_secs(seconds.into()))
    }

    fn is_unreachable(&self) -> bool {
        self.0.unreachable.load(Relaxed)
    }

    fn cap_wait(&self) {
        self.0.capped.store(true, Relaxed);
    }
}

/// A set with the one who tells it what is new.
struct Fixture {
    updates: Updates,
    set: Set<Gate>,
    config: BalanceConfig,
    zone: Option<&'static str>,
    epoch: Instant,
    made: u64,
}

impl Fixture {
    fn new(endpoints: Vec<Endpoint>) -> Self {
        Self::with(endpoints, BalanceConfig::default(), None)
    }

    fn with(endpoints: Vec<Endpoint>, config: BalanceConfig, zone: Option<&'static str>) -> Self {
        let (updates, receiver) = Updates::channel();
        let set = Set::unread(receiver, &config);
        let mut fixture = Self { updates, set, config, zone, epoch: Instant::now(), made: 0 };
        fixture.update(0, endpoints);
        fixture
    }

    /// So many milliseconds after the beginning.
    fn at(&self, millis: u64) -> Instant {
        self.epoch + Duration::from_millis(millis)
    }

    fn update(&mut self, millis: u64, endpoints: Vec<Endpoint>) {
        self.updates.set(endpoints);
        self.read(millis);
    }

    fn read(&mut self, millis: u64) {
        let now = self.at(millis);
        self.set = next(&self.set, now, &Gates, &self.config, self.zone, self.epoch, &mut self.made);
    }

    fn gate(&self, at: usize) -> &Gate {
        &self.set.nodes[at].service
    }

    /// All have just turned a call away: none has room.
    fn fill(&self, millis: u64) {
        self.set.nodes.iter().for_each(|node| node.gauge.refuse(self.at(millis)));
    }
}

fn next<M: MakeEndpoint>(
    set: &Set<M::Service>,
    now: Instant,
    make: &M,
    config: &BalanceConfig,
    zone: Option<&str>,
    epoch: Instant,
    made: &mut u64,
) -> Set<M::Service> {
    let refresh = &Refresh::default();
    set.next(now, Workshop { make, config, zone, refresh, epoch, made })
}

fn endpoint(number: usize) -> Endpoint {
    Endpoint::at(&format!("10.0.{}.{}", number / 256, number % 256), 80)
}

fn endpoints(count: usize) -> Vec<Endpoint> {
    (0..count).map(endpoint).collect()
}

fn in_zone(number: usize, zone: &str) -> Endpoint {
    Endpoint { zone: Some(zone.into()), ..endpoint(number) }
}
