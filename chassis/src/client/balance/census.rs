//! Who is available, looked at now and then: what the choice of a pool rests on when not all are.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use fastrand::Rng;

use super::{Available, pool::Pool, set::Set};

/// How far the local endpoints are taken to be able to carry more than their share: Envoy's overprovisioning factor.
pub(super) const OVERPROVISIONING: f32 = 1.4;
/// How often all endpoints are looked at: at most once in this time for each of them, so that the looking costs less than
/// 0.2 % of a core however many there are (about 10 ns each). 1,000 endpoints: every 10 ms.
const LOOK_EVERY: Duration = Duration::from_micros(10);

/// Who was available at one moment, when not all were.
#[derive(Debug)]
pub(super) struct Census {
    pub(super) at: Instant,
    pub(super) available: usize,
    /// The share of calls that stays in this instance's zone.
    stays: f32,
    home: Pool,
    /// Those of other zones; all when zones do not matter.
    away: Pool,
    /// Those to draw from when too few are available, and none of these has room.
    panic: Option<Pool>,
    /// When the first one may be asked again, when none is available.
    pub(super) reopens: Option<Instant>,
}

/// Where to draw from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Plan<'a> {
    /// Whoever is available in it.
    Among(&'a Pool),
    /// Also who is not, if it can be reached.
    Panic(&'a Pool),
    /// Nobody is available.
    Nobody,
}

impl Census {
    /// Looks at all; `None` when all are available.
    fn take<S: Available>(set: &Set<S>, now: Instant) -> Option<Self> {
        let local = |at: usize| set.local.as_ref().is_some_and(|local| local[at]);
        let usable = set.usable.len();
        let (mut home, mut away) = (Vec::new(), Vec::with_capacity(usable));
        // Collected with the others: asked again, breakers may have changed, and nobody would be left.
        let mut reachable = Vec::new();
        let mut room = false;
        for place in 0..usable {
            let at = set.usable.at(place);
            let node = &set.nodes[at];
            let available = node.service.is_available(now);
            node.gauge.seen(available);
            if available {
                room |= node.gauge.has_room(now);
                if local(at) { home.push(at as u32) } else { away.push(at as u32) }
            }
            if available || !node.service.is_unreachable() {
                reachable.push(at as u32);
            }
        }
        let available = home.len() + away.len();
        if available == usable {
            return None;
        }
        let stays = set.home.as_ref().map_or(0.0, |all| stays(home.len(), all.len()));
        let share = available as f32 / usable as f32;
        // While the local ones carry their part, that others fail is no reason to panic (Envoy's priority levels). Nor is it
        // while one that works can take more: a call to one that fails is most likely lost.
        let panics = available > 0 && stays < 1.0 && share < set.panic_threshold && !room;
        let shares = set.shares.as_deref();
        let panic = panics.then(|| Pool::new(reachable, shares));
        let reopens = if available == 0 { reopens(set, now) } else { None };
        Some(Self {
            at: now,
            available,
            stays,
            home: Pool::new(home, shares),
            away: Pool::new(away, shares),
            panic,
            reopens,
        })
    }

    pub(super) fn panics(&self) -> bool {
        self.panic.is_some()
    }

    pub(super) fn plan(&self, rng: &mut Rng) -> Plan<'_> {
        if let Some(panic) = &self.panic {
            Plan::Panic(panic)
        } else if self.available == 0 {
            Plan::Nobody
        } else if self.home.is_empty() {
            Plan::Among(&self.away)
        } else if self.away.is_empty() || self.stays >= 1.0 || rng.f32() < self.stays {
            Plan::Among(&self.home)
        } else {
            Plan::Among(&self.away)
        }
    }
}

/// The share of calls that stays in the zone: all as long as the available share there, with the overprovisioning, makes 1.
fn stays(available: usize, all: usize) -> f32 {
    (OVERPROVISIONING * available as f32 / all as f32).min(1.0)
}

/// When the first endpoint may be asked again. Waits are cut short: the last available endpoint is never out for long.
fn reopens<S: Available>(set: &Set<S>, now: Instant) -> Option<Instant> {
    let services = || (0..set.usable.len()).map(|place| &set.nodes[set.usable.at(place)].service);
    services().for_each(Available::cap_wait);
    now.checked_add(services().filter_map(|service| service.wait(now)).min()?)
}

impl<S: Available> Set<S> {
    /// Who is available; `None` when all are. Looks again when the last look is too old, or when it is known to be wrong.
    pub(super) fn census(&self, now: Instant, wrong: bool) -> Option<Arc<Census>> {
        if !wrong && let Some(census) = &*self.census.load() {
            let every = LOOK_EVERY.saturating_mul(self.usable.len() as u32);
            if now.saturating_duration_since(census.at) < every {
                return Some(Arc::clone(census));
            }
        }
        let census = Census::take(self, now).map(Arc::new);
        self.degraded.store(census.is_some(), Relaxed);
        self.census.store(census.clone());
        census
    }
}
