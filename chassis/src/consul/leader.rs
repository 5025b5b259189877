//! Leader election: the calls that a [`Candidate`] asks for, one at a time, and beside them a held query on the key.

use std::{
    future::Future,
    pin::Pin,
    time::{Duration, Instant},
};

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::{
    Consul, ConsulAnswer, ConsulError, Cursor, LeaderConfig,
    kv::decoded,
    session::{self, Locked, SessionSpec},
};
use crate::{
    health::Reporter,
    leader::{
        Leader,
        state::{Candidate, Step, Timing},
    },
};

/// How long Consul holds the query on the key. Chosen as for settings.
const WAIT: Duration = Duration::from_secs(30);

/// Runs for one kind of leadership until it is told to stop. Made anew after a panic.
pub(crate) struct Campaign {
    pub(crate) consul: Consul,
    pub(crate) leader: Leader,
    /// `chassis/leader/<service>/<name>`
    pub(crate) key: String,
    /// The instance, as people read it in the key.
    pub(crate) instance: String,
    pub(crate) config: LeaderConfig,
    pub(crate) health: Reporter,
}

/// Ends the term when the campaign ends, however it ends.
struct EndOfTerm(Leader);

impl Drop for EndOfTerm {
    fn drop(&mut self) {
        self.0.end();
    }
}

type Calls = Pin<Box<dyn Future<Output = Heard> + Send>>;

/// What a call came to.
enum Heard {
    Created { asked: Instant, session: Result<String, ConsulError> },
    Renewed { asked: Instant, id: String, known: Result<bool, ConsulError> },
    Locked { id: String, locked: Result<Locked, ConsulError> },
    Discarded,
}

/// One look at the key.
type Look = Pin<Box<dyn Future<Output = (Cursor, Result<Option<ConsulAnswer>, ConsulError>)> + Send>>;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Key {
    session: Option<String>,
    value: Option<String>,
    modify_index: u64,
}

impl Campaign {
    /// Campaigns until `stop`, and then gives the leadership back, so that another instance takes over at once.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let _end = EndOfTerm(self.leader.clone());
        let timing = Timing::of(self.config.ttl.get());
        let mut candidate = Candidate::new(timing, now());
        let mut call: Option<Calls> = None;
        let mut look = self.look(Cursor::new());
        let mut led_by: Option<String> = None;
        loop {
            let mut rest = None;
            if call.is_none() {
                match candidate.step(now()) {
                    Step::Rest(until) => rest = Some(until),
                    step => call = self.begin(step, timing.call_limit()),
                }
            }
            self.publish(&candidate);
            // Whatever call hangs, the term ends in time.
            let wake = rest.or_else(|| candidate.leads(now()).map(|(_, until)| until));
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                heard = pending_or(&mut call) => {
                    call = None;
                    self.hear(&mut candidate, heard, led_by.as_deref());
                }
                (cursor, seen) = &mut look => {
                    self.see(&mut candidate, seen, &mut led_by);
                    look = self.look(cursor);
                }
                () = sleep_until(wake) => {}
            }
        }
        drop((call, look));
        let session = candidate.resign();
        self.leader.close();
        // What is done for the term is dropped before another instance can begin.
        let _ = tokio::time::timeout(timing.call_limit(), self.leader.idle()).await;
        if let Some(id) = session {
            match session::give_back(&self.consul, &self.key, &id, timing.call_limit()).await {
                Ok(()) => tracing::info!(leader = self.leader.name(), "leadership given back"),
                Err(error) => tracing::warn!(
                    leader = self.leader.name(),
                    %error,
                    "leadership not given back: another instance leads when the session has ended"
                ),
            }
        }
    }

    /// Brings the handle in line with the candidate.
    fn publish(&self, candidate: &Candidate) {
        let now = now();
        let term = self.leader.watch().borrow().as_ref().map(crate::leader::Term::fencing_token);
        match (candidate.leads(now), term) {
            // A term whose time is over by the clock has lost its work, though the session was renewed since.
            (Some((token, until)), Some(published)) if token == published && self.leader.extend(until) => {}
            (Some((token, until)), _) => {
                tracing::info!(leader = self.leader.name(), fencing_token = token, "this instance leads");
                self.leader.begin(token, until, now);
                self.health.up_with(format!("leads, fencing token {token}"));
            }
            (None, Some(_)) => {
                tracing::warn!(leader = self.leader.name(), "this instance leads no more");
                self.leader.end();
            }
            (None, None) => {}
        }
    }

    fn begin(&self, step: Step, limit: Duration) -> Option<Calls> {
        let (consul, asked) = (self.consul.clone(), now());
        let key = self.key.clone();
        Some(match step {
            Step::Rest(_) => return None,
            Step::Create => {
                let spec = SessionSpec {
                    name: format!("{} of {}", self.key, self.instance),
                    ttl: self.config.ttl.get(),
                    lock_delay: self.config.lock_delay.get(),
                };
                Box::pin(async move {
                    let session = session::create(&consul, &spec, limit).await;
                    Heard::Created { asked, session }
                })
            }
            Step::Renew(id) => Box::pin(async move {
                let known = session::renew(&consul, &id, limit).await;
                Heard::Renewed { asked, id, known }
            }),
            Step::Lock(id) => {
                let value = self.instance.clone();
                Box::pin(async move {
                    let locked = session::lock(&consul, &key, &value, &id, limit).await;
                    Heard::Locked { id, locked }
                })
            }
            Step::Discard(id) => Box::pin(async move {
                // If it cannot be told, Consul ends it by its time.
                let _ = session::give_back(&consul, &key, &id, limit).await;
                Heard::Discarded
            }),
        })
    }

    fn hear(&self, candidate: &mut Candidate, heard: Heard, led_by: Option<&str>) {
        let error = match heard {
            Heard::Created { asked, session: Ok(id) } => {
                candidate.created(id, asked);
                None
            }
            Heard::Renewed { asked, id, known: Ok(true) } => {
                candidate.renewed(&id, asked);
                None
            }
            Heard::Renewed { id, known: Ok(false), .. } => {
                candidate.gone(&id);
                None
            }
            Heard::Locked { id, locked: Ok(Locked::Yes(index)) } => {
                candidate.locked(&id, index);
                None
            }
            Heard::Locked { locked: Ok(Locked::No), .. } => {
                candidate.failed(now());
                None
            }
            Heard::Discarded => None,
            Heard::Created { session: Err(error), .. }
            | Heard::Renewed { known: Err(error), .. }
            | Heard::Locked { locked: Err(error), .. } => {
                candidate.failed(now());
                Some(error)
            }
        };
        match error {
            Some(error) => self.health.degraded(format!("Consul cannot be asked who leads: {error}")),
            None => self.tell(candidate, led_by),
        }
    }

    fn tell(&self, candidate: &Candidate, led_by: Option<&str>) {
        match (candidate.leads(now()), led_by) {
            (Some((token, _)), _) => self.health.up_with(format!("leads, fencing token {token}")),
            (None, Some(other)) => self.health.up_with(format!("led by {other}")),
            (None, None) => self.health.up_with("nobody leads yet"),
        }
    }

    fn look(&self, mut cursor: Cursor) -> Look {
        let (consul, path) = (self.consul.clone(), session::path(&self.key));
        Box::pin(async move {
            let seen = consul.blocking(&path, &mut cursor, WAIT).await;
            (cursor, seen)
        })
    }

    /// Takes in who holds the lock.
    fn see(
        &self,
        candidate: &mut Candidate,
        seen: Result<Option<ConsulAnswer>, ConsulError>,
        led_by: &mut Option<String>,
    ) {
        match seen {
            Ok(None) => {}
            Ok(Some(answer)) => {
                let key = answer.json::<Vec<Key>>("GET (the key)").ok().and_then(|keys| keys.into_iter().next());
                let (holder, index) = match &key {
                    Some(key) => (key.session.as_deref(), key.modify_index),
                    None => (None, answer.index.unwrap_or_default()),
                };
                candidate.seen(holder, index);
                let value = key.as_ref().filter(|key| key.session.is_some()).and_then(|key| key.value.as_deref());
                *led_by = value.and_then(decoded).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                self.tell(candidate, led_by.as_deref());
            }
            // The calls of the session tell of it in the health check; a lock may be free by now.
            Err(_) => candidate.unseen(),
        }
    }
}

async fn pending_or(call: &mut Option<Calls>) -> Heard {
    match call {
        Some(call) => call.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake.into()).await,
        None => std::future::pending().await,
    }
}

/// The monotonic clock; tokio's, so that a paused clock in a test moves it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
