//! Connections tried in the background to endpoints that refuse them, so that one that is back is probed at once.
//!
//! Calls alone learn of a return when the wait of the breaker is over: after a second or more in which the endpoint serves and
//! gets nothing. A connection costs no call. Finagle's `FailFastFactory` tries them for the same reason.
//!
//! An accepted connection is a sign of life and no more: it makes the breaker half-open, and its probes decide.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{net::TcpStream, sync::Notify, task::JoinSet, time::timeout};

use super::breaker::Breaker;
use crate::clock::now;

/// The time between two knocks for as long as a restart may take. Chosen: a tenth of the breaker's first wait.
const OFTEN: Duration = Duration::from_millis(100);
/// For how long an endpoint is expected back soon. Chosen: a process starts within it.
const SOON: Duration = Duration::from_secs(10);
/// The time between two knocks after that. Chosen: the breaker's first wait.
const SELDOM: Duration = Duration::from_secs(1);
/// How much of these times is chance, to either side, so that callers do not knock in step.
const JITTER: f64 = 0.25;
/// How far knocks of one destination are apart on average, however many endpoints it has: 100 a second, about 1 % of a core.
const SPACING: Duration = Duration::from_millis(10);
/// How long one connection may take. Chosen: TCP sends a lost packet again after 1 s.
const WITHIN: Duration = Duration::from_secs(1);
/// How many are under way at once: one that gets no answer must not hold up the others.
const AT_ONCE: usize = 16;
/// How many early probes an endpoint has in store, and how fast they grow back: one in 2 s. Chosen: enough for a rollout that is
/// tried again and again, and in the long run less than the breaker itself allows an endpoint that flaps (one in 1 s).
const STORE: f64 = 20.0;
const GROWS_BACK: Duration = Duration::from_secs(2);
/// The time between early probes of which the last failed, doubling with each opening of the breaker up to the longest. As the
/// breaker's own waits.
const AFTER_FAILED: Duration = Duration::from_secs(1);
const LONGEST_AFTER_FAILED: Duration = Duration::from_secs(60);

/// An endpoint whose breaker is open because it accepts no connection.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
    pub(crate) breaker: Breaker,
}

type Address = (Arc<str>, u16);

/// When one endpoint is knocked at, and what follows from an answer. Pure.
#[derive(Debug)]
struct Knocks {
    /// Since when it is knocked at.
    since: Instant,
    next: Instant,
    /// A connection is being tried.
    busy: bool,
    /// When it was probed early the last time.
    probed: Option<Instant>,
    /// Early probes in store, as of a time.
    store: (f64, Instant),
}

impl Knocks {
    fn new(now: Instant) -> Self {
        Self { since: now, next: now + OFTEN, busy: false, probed: None, store: (STORE, now) }
    }

    /// No connection. `doors` is how many endpoints are knocked at; `random` is from 0 to 1.
    fn refused(&mut self, now: Instant, doors: usize, random: f64) {
        let every = if now.saturating_duration_since(self.since) < SOON { OFTEN } else { SELDOM };
        let every = every.max(SPACING.saturating_mul(u32::try_from(doors).unwrap_or(u32::MAX)));
        self.next = now + every.mul_f64(1.0 + JITTER * (2.0 * random.clamp(0.0, 1.0) - 1.0));
    }

    /// A connection was accepted, by an endpoint whose breaker has opened so often since it was closed. Says whether the
    /// endpoint may be probed before its time.
    fn accepted(&mut self, now: Instant, openings: u32) -> bool {
        self.next = now + SELDOM;
        let store = self.store(now);
        let failed = openings.saturating_sub(1);
        let apart = match failed {
            0 => Duration::ZERO,
            failed => AFTER_FAILED.saturating_mul(1 << (failed - 1).min(10)).min(LONGEST_AFTER_FAILED),
        };
        let early = store >= 1.0 && self.probed.is_none_or(|probed| now.saturating_duration_since(probed) >= apart);
        if early {
            self.probed = Some(now);
        }
        self.store = (if early { store - 1.0 } else { store }, now);
        early
    }

    fn store(&self, now: Instant) -> f64 {
        let (store, at) = self.store;
        let grown = now.saturating_duration_since(at).as_secs_f64() / GROWS_BACK.as_secs_f64();
        (store + grown).min(STORE)
    }

    /// Returns whether nothing would be different if it were made anew.
    fn is_forgettable(&self, now: Instant) -> bool {
        self.store(now) >= STORE && self.probed.is_none_or(|probed| now >= probed + LONGEST_AFTER_FAILED)
    }
}

/// Knocks at these doors until dropped. `wake` says that there may be one more.
pub(crate) async fn knock(wake: Arc<Notify>, doors: impl Fn(Instant) -> Vec<Door> + Send) {
    let mut known: HashMap<Address, Knocks> = HashMap::new();
    let mut tries: JoinSet<(Address, bool)> = JoinSet::new();
    // Those of the last look, by address.
    let mut closed: HashMap<Address, Breaker> = HashMap::new();
    loop {
        let now = now();
        let before = std::mem::take(&mut closed);
        closed.extend(doors(now).into_iter().map(|door| ((door.host, door.port), door.breaker)));
        known.retain(|address, knocks| closed.contains_key(address) || knocks.busy || !knocks.is_forgettable(now));
        let mut next: Option<Instant> = None;
        for address in closed.keys() {
            let knocks = known.entry(address.clone()).or_insert_with(|| Knocks::new(now));
            if !before.contains_key(address) && !knocks.busy {
                (knocks.since, knocks.next) = (now, now + OFTEN);
            }
            if knocks.busy {
                continue;
            }
            if knocks.next > now {
                next = Some(next.map_or(knocks.next, |next| next.min(knocks.next)));
            } else if tries.len() < AT_ONCE {
                knocks.busy = true;
                let address = address.clone();
                tries.spawn(async move {
                    let accepted = accepts(&address).await;
                    (address, accepted)
                });
            }
            // Else it is tried when another try has ended.
        }
        tokio::select! {
            biased;
            Some(done) = tries.join_next() => {
                let Ok((address, accepted)) = done else { continue };
                let Some(knocks) = known.get_mut(&address) else { continue };
                knocks.busy = false;
                let now = crate::clock::now();
                match closed.get(&address).filter(|_| accepted) {
                    Some(breaker) if knocks.accepted(now, breaker.openings()) => {
                        if breaker.probe_now(now) {
                            tracing::debug!(host = &*address.0, port = address.1, "accepts connections again: probed at once");
                        }
                    }
                    Some(_) => {}
                    None => knocks.refused(now, closed.len(), fastrand::f64()),
                }
            }
            () = wake.notified() => {}
            () = sleep_until(next) => {}
        }
    }
}

async fn accepts((host, port): &Address) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    timeout(WITHIN, TcpStream::connect((host, *port))).await.is_ok_and(|connected| connected.is_ok())
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{
        Outcome,
        breaker::{BreakerConfig, BreakerState},
    };

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn a_restart_is_looked_for_often_and_then_seldom() {
        let start = Instant::now();
        let mut knocks = Knocks::new(start);
        let mut count = 0;
        while knocks.next < start + SOON {
            knocks.refused(knocks.next, 1, 0.5);
            count += 1;
        }
        assert!((95..=100).contains(&count), "{count} in the first ten seconds");
        let next = knocks.next;
        knocks.refused(next, 1, 0.5);
        assert_eq!(knocks.next - next, SELDOM);
        for (random, wait) in [(0.0, 750), (1.0, 1_250)] {
            knocks.refused(next, 1, random);
            assert_eq!((knocks.next - next).as_millis(), wait);
        }
    }

    #[test]
    fn many_endpoints_share_a_hundred_knocks_a_second() {
        let start = Instant::now();
        let mut knocks = Knocks::new(start);
        knocks.refused(start, 1_000, 0.5);
        assert_eq!(knocks.next - start, Duration::from_secs(10));
    }

    #[test]
    fn an_early_probe_that_failed_delays_the_next_one() {
        let start = Instant::now();
        let mut knocks = Knocks::new(start);
        assert!(knocks.accepted(start, 1));
        // Its breaker has opened again, by a probe that failed.
        assert!(!knocks.accepted(at(start, 999), 2));
        assert!(knocks.accepted(at(start, 1_000), 2));
        assert!(!knocks.accepted(at(start, 2_999), 3));
        assert!(knocks.accepted(at(start, 3_000), 3));
        assert!(!knocks.accepted(at(start, 62_999), 30));
        assert!(knocks.accepted(at(start, 63_000), 30));
    }

    #[test]
    fn a_flapping_endpoint_has_a_limit_of_early_probes() {
        let start = Instant::now();
        let mut knocks = Knocks::new(start);
        // Each half second it is back, serves well enough to close its breaker, and is gone again: for ten minutes.
        let early = (0..1_200).filter(|half| knocks.accepted(at(start, half * 500), 1)).count();
        assert_eq!(early, 20 + 299, "the store, and one in two seconds");
    }

    #[test]
    fn twenty_restarts_in_a_row_are_all_seen() {
        let start = Instant::now();
        let mut knocks = Knocks::new(start);
        assert!((0..20).all(|restart| knocks.accepted(at(start, restart * 1_200), 1)));
    }

    /// Its endpoint refuses connections, and it waits for an hour.
    fn open(port: u16) -> Door {
        let hour = Duration::from_secs(3_600).into();
        let breaker = Breaker::new(&BreakerConfig { open_wait: hour, max_open_wait: hour, ..BreakerConfig::default() });
        while let Ok(permit) = breaker.admit(now()) {
            permit.record(Outcome::Unreachable, Duration::ZERO, now());
        }
        Door { host: "127.0.0.1".into(), port, breaker }
    }

    #[tokio::test]
    async fn an_endpoint_that_accepts_again_is_probed_at_once() {
        let reserved = || tokio::net::TcpListener::bind("127.0.0.1:0");
        let (back, away) = (reserved().await.unwrap(), reserved().await.unwrap());
        let address = back.local_addr().unwrap();
        let doors = [open(address.port()), open(away.local_addr().unwrap().port())];
        drop((back, away));
        let breakers = doors.each_ref().map(|door| door.breaker.clone());
        let closed = move |now| {
            let waits = doors.iter().filter(|door| door.breaker.state(now) == BreakerState::Open);
            waits.map(|door| Door { host: door.host.clone(), breaker: door.breaker.clone(), ..*door }).collect()
        };
        let knocking = knock(Arc::default(), closed);
        let probed = async {
            let _serves = tokio::net::TcpListener::bind(address).await.unwrap();
            while breakers[0].state(now()) != BreakerState::HalfOpen {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = knocking => {}
            probed = timeout(Duration::from_secs(30), probed) => probed.expect("probed long before its wait is over"),
        }
        assert_eq!(breakers[1].state(now()), BreakerState::Open);
    }
}
