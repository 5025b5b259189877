//! Which endpoint gets the call.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use fastrand::Rng;

use super::{
    Available, Tried,
    census::Plan,
    pool::Pool,
    set::{Node, Set},
};

/// How often a candidate is drawn again before all are gone through. Chosen: of a pool of which half cannot be had, one pick
/// in 16 goes through it.
const DRAWS: usize = 4;
/// What part of its share a new endpoint gets at least: Envoy's `min_weight_percent`.
const SLOW_START_LEAST: f32 = 0.1;
/// Of unequal weights, costs that differ by less are the same. Chosen: more than estimates fade between two calls, less than
/// one pending call makes.
const WORTH_IT: f32 = 0.9;

/// An endpoint for a call.
pub(super) struct Picked<'a, S> {
    pub(super) node: &'a Arc<Node<S>>,
    /// Its breaker is open, and is not to be asked.
    pub(super) bypass: bool,
}

/// There is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nobody {
    /// The list is empty.
    Empty,
    /// None is available.
    Held {
        /// How many there are.
        endpoints: usize,
        /// After how long the first may be asked again.
        wait: Option<Duration>,
    },
}

/// What a draw may bring.
#[derive(Clone, Copy)]
struct Rules<'a> {
    now: Instant,
    tried: Option<&'a Tried>,
    panic: bool,
}

/// Whether an endpoint that was drawn will do.
#[derive(PartialEq, Eq)]
enum Look {
    Fits,
    /// It would do if there were no other.
    NotFirst,
    Gated,
}

impl<S: Available> Set<S> {
    /// The endpoint for a call.
    pub(super) fn pick(&self, now: Instant, rng: &mut Rng, tried: Option<&Tried>) -> Result<Picked<'_, S>, Nobody> {
        if self.usable.is_empty() {
            return Err(Nobody::Empty);
        }
        let rules = Rules { now, tried: tried.filter(|tried| !tried.is_empty()), panic: false };
        let mut wrong = false;
        // As far as anybody knows all are available.
        if !self.degraded.load(Relaxed) {
            if let Some(picked) = self.picked(self.nearest(), rules, rng, true) {
                return Ok(picked);
            }
            wrong = true;
        }
        // Twice, for what is known may be as old as the last look.
        for _ in 0..2 {
            let census = self.census(now, wrong);
            let (pool, panic) = match census.as_ref().map(|census| (census.plan(rng), census)) {
                None => (self.nearest(), false),
                Some((Plan::Among(pool), _)) => (pool, false),
                Some((Plan::Panic(pool), _)) => (pool, true),
                Some((Plan::Nobody, census)) => {
                    let wait = census.reopens.map(|at| at.saturating_duration_since(now));
                    return Err(Nobody::Held { endpoints: self.usable.len(), wait });
                }
            };
            if let Some(picked) = self.picked(pool, Rules { panic, ..rules }, rng, false) {
                return Ok(picked);
            }
            wrong = true;
        }
        Err(Nobody::Held { endpoints: self.usable.len(), wait: None })
    }

    /// Where calls go when all are available.
    fn nearest(&self) -> &Pool {
        self.home.as_ref().unwrap_or(&self.usable)
    }

    fn picked(&self, pool: &Pool, rules: Rules<'_>, rng: &mut Rng, strict: bool) -> Option<Picked<'_, S>> {
        let mut at = self.choose(pool, rules, rng, strict)?;
        // Another endpoint counts for more than the zone.
        if self.is_tried(at, rules)
            && pool.len() < self.usable.len()
            && let Some(other) = self.choose(&self.usable, rules, rng, false)
        {
            at = other;
        }
        let node = &self.nodes[at];
        Some(Picked { node, bypass: rules.panic && !node.service.is_available(rules.now) })
    }

    fn is_tried(&self, at: usize, rules: Rules<'_>) -> bool {
        rules.tried.is_some_and(|tried| tried.contains(self.nodes[at].number))
    }

    /// The better of two that are drawn. `None` when nobody in the pool will do; when `strict`, as soon as one that was drawn
    /// is not available, since then there is more to consider than this pool.
    fn choose(&self, pool: &Pool, rules: Rules<'_>, rng: &mut Rng, strict: bool) -> Option<usize> {
        if pool.is_empty() {
            return None;
        }
        let Some(first) = self.draw(pool, rules, rng, strict, |rng| pool.draw(rng))? else {
            return self.scan(pool, rules, rng);
        };
        let one = pool.at(first);
        if pool.len() == 1 {
            return Some(one);
        }
        let Some(second) = self.draw(pool, rules, rng, strict, |rng| pool.draw_other(first, rng))? else {
            return Some(one);
        };
        let two = pool.at(second);
        let better = self.better(one, two, rules.now, rng);
        let other = if better == one { two } else { one };
        Some(if self.nodes[other].gauge.is_due(rules.now) { other } else { better })
    }

    /// A candidate, in a few draws. The outer `None` says that one was not available, if that is of interest.
    #[expect(clippy::option_option, reason = "the two say different things")]
    fn draw(
        &self,
        pool: &Pool,
        rules: Rules<'_>,
        rng: &mut Rng,
        strict: bool,
        mut draw: impl FnMut(&mut Rng) -> usize,
    ) -> Option<Option<usize>> {
        for _ in 0..DRAWS {
            let place = draw(rng);
            match self.look(pool.at(place), rules, rng) {
                Look::Fits => return Some(Some(place)),
                Look::Gated if strict => return None,
                Look::Gated | Look::NotFirst => {}
            }
        }
        Some(None)
    }

    fn look(&self, at: usize, rules: Rules<'_>, rng: &mut Rng) -> Look {
        let node = &self.nodes[at];
        let available = node.service.is_available(rules.now);
        node.gauge.seen(available);
        let bypassed = rules.panic && !node.service.is_unreachable();
        if !(available || bypassed) {
            Look::Gated
        } else if self.is_tried(at, rules) || !self.accepts(node, rules.now, rng) {
            Look::NotFirst
        } else {
            Look::Fits
        }
    }

    /// A new endpoint takes part in so many draws only.
    fn accepts(&self, node: &Node<S>, now: Instant, rng: &mut Rng) -> bool {
        let Some(born) = node.born.filter(|_| !self.slow_start.is_zero()) else { return true };
        let age = now.saturating_duration_since(born);
        age >= self.slow_start || rng.f32() < (age.as_secs_f32() / self.slow_start.as_secs_f32()).max(SLOW_START_LEAST)
    }

    /// From a random place on, the first that will do; else the first that is available at all.
    fn scan(&self, pool: &Pool, rules: Rules<'_>, rng: &mut Rng) -> Option<usize> {
        let start = rng.usize(..pool.len());
        let mut last = None;
        for place in (start..pool.len()).chain(0..start) {
            let at = pool.at(place);
            match self.look(at, rules, rng) {
                Look::Fits => return Some(at),
                Look::NotFirst => last = last.or(Some(at)),
                Look::Gated => {}
            }
        }
        last
    }

    /// The one that costs less. Of unequal weights see the [module](super).
    fn better(&self, one: usize, two: usize, now: Instant, rng: &mut Rng) -> usize {
        let cost = |at: usize, share| self.nodes[at].gauge.cost(now, &self.ewma, share);
        let Some(shares) = &self.shares else {
            return if cost(two, 1.0) < cost(one, 1.0) { two } else { one };
        };
        let (share_one, share_two) = (shares[one], shares[two]);
        let (cost_one, cost_two) = (cost(one, share_one), cost(two, share_two));
        let lighter = share_two / share_one;
        if cost_two < cost_one * WORTH_IT && (cost_two < cost_one * lighter || rng.f32() < lighter) { two } else { one }
    }
}
