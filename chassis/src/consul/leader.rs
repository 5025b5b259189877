//! Leader election: the calls that a [`Candidate`] asks for, one at a time, and beside them a held query on the key.

use std::{
    future::Future,
    pin::Pin,
    time::{Duration, Instant},
};

use http::StatusCode;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::{
    Consul, ConsulAnswer, ConsulError, Cursor, LeaderConfig,
    kv::decoded,
    session::{self, Locked, Scope, SessionSpec},
};
use crate::{
    clock::now,
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
    /// Where the key is, for calls that take it in their body.
    pub(crate) scope: Scope,
    pub(crate) health: Reporter,
}

/// What is known of the election, for the health check.
#[derive(Debug, Default)]
struct Known {
    led_by: Option<String>,
    /// Why the last call failed, until one succeeds.
    failed: Option<String>,
    /// Why this instance may not lock the key, until it is tried with success: other calls succeed all the while.
    forbidden: Option<String>,
}

impl Known {
    /// What the check says: `Err` is degraded.
    fn told(&self, token: Option<u64>) -> Result<String, String> {
        match (token, &self.failed, &self.forbidden, &self.led_by) {
            (_, Some(why), ..) => Err(format!("Consul cannot be asked who leads: {why}")),
            (None, None, Some(why), _) => {
                Err(format!("this instance cannot be elected, the ACL token needs key:write and session:write: {why}"))
            }
            (Some(token), ..) => Ok(format!("leads, fencing token {token}")),
            (None, None, None, Some(other)) => Ok(format!("led by {other}")),
            (None, None, None, None) => Ok("nobody leads yet".to_owned()),
        }
    }

    /// A call of the session came to this.
    fn called(&mut self, error: Option<&ConsulError>) {
        self.failed = error.map(ToString::to_string);
    }

    /// An attempt to lock came to this.
    fn tried(&mut self, error: Option<&ConsulError>) {
        match error {
            Some(error @ ConsulError::Refused { status, .. }) if *status == StatusCode::FORBIDDEN => {
                self.forbidden = Some(error.to_string());
                self.failed = None;
            }
            Some(_) => self.called(error),
            None => *self = Self { led_by: self.led_by.take(), ..Self::default() },
        }
    }
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
    Locked { asked: Instant, id: String, locked: Result<Locked, ConsulError> },
    Released { id: String, released: Result<(), ConsulError> },
    Discarded,
}

/// One look at the key.
type Look = Pin<Box<dyn Future<Output = Looked> + Send>>;

struct Looked {
    sent: Instant,
    cursor: Cursor,
    seen: Result<Option<ConsulAnswer>, ConsulError>,
}

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
        let mut known = Known::default();
        loop {
            let mut rest = None;
            if call.is_none() {
                match candidate.step(now()) {
                    Step::Rest(until) => rest = Some(until),
                    step => call = self.begin(step, timing.call_limit()),
                }
            }
            self.publish(&mut candidate);
            // Whatever call hangs, the term ends in time.
            let wake = rest.or_else(|| candidate.leads(now()).map(|(_, until)| until));
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                heard = pending_or(&mut call) => {
                    call = None;
                    self.hear(&mut candidate, heard, &mut known);
                }
                Looked { sent, mut cursor, seen } = &mut look => {
                    if !self.see(&mut candidate, sent, seen, &mut known) {
                        cursor.reset();
                    }
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
    fn publish(&self, candidate: &mut Candidate) {
        let now = now();
        let term = self.leader.watch().borrow().as_ref().map(crate::leader::Term::fencing_token);
        let mut leads = candidate.leads(now);
        if let (Some((token, until)), Some(published)) = (leads, term)
            && token == published
        {
            if self.leader.extend(until) {
                return;
            }
            // The clock was faster than the renewal: the work is lost, and another term has another token.
            candidate.lapse();
            leads = None;
        }
        match (leads, term) {
            (Some((token, until)), _) => {
                tracing::info!(leader = self.leader.name(), term = token, "this instance leads");
                self.leader.begin(token, until, now);
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
                let (value, scope) = (self.instance.clone(), self.scope.clone());
                Box::pin(async move {
                    let locked = session::lock(&consul, &scope, &key, &value, &id, limit).await;
                    Heard::Locked { asked, id, locked }
                })
            }
            Step::Release(id) => Box::pin(async move {
                let released = session::release(&consul, &key, &id, limit).await;
                Heard::Released { id, released }
            }),
            Step::Discard(id) => Box::pin(async move {
                // If it cannot be told, Consul ends it by its time.
                let _ = session::give_back(&consul, &key, &id, limit).await;
                Heard::Discarded
            }),
        })
    }

    fn hear(&self, candidate: &mut Candidate, heard: Heard, known: &mut Known) {
        match heard {
            Heard::Created { asked, session } => {
                known.called(session.as_ref().err());
                match session {
                    Ok(id) => candidate.created(id, asked, now()),
                    Err(_) => candidate.failed(now(), fastrand::f64()),
                }
            }
            Heard::Renewed { asked, id, known: renewed } => {
                known.called(renewed.as_ref().err());
                match renewed {
                    Ok(true) => candidate.renewed(&id, asked, now()),
                    Ok(false) => candidate.gone(&id),
                    Err(_) => candidate.failed(now(), fastrand::f64()),
                }
            }
            Heard::Locked { asked, id, locked } => {
                known.tried(locked.as_ref().err());
                match locked {
                    Ok(Locked::Yes(index)) => candidate.locked(&id, index, asked, now()),
                    Ok(Locked::No) | Err(_) => candidate.failed(now(), fastrand::f64()),
                }
            }
            Heard::Released { id, released } => {
                known.called(released.as_ref().err());
                match released {
                    Ok(()) => candidate.released(&id),
                    Err(_) => candidate.failed(now(), fastrand::f64()),
                }
            }
            // It is not asked what came of it, so it tells nothing of Consul.
            Heard::Discarded => {}
        }
        self.tell(candidate, known);
    }

    fn tell(&self, candidate: &Candidate, known: &Known) {
        match known.told(candidate.leads(now()).map(|(token, _)| token)) {
            Ok(message) => self.health.up_with(message),
            Err(message) => self.health.degraded(message),
        }
    }

    fn look(&self, mut cursor: Cursor) -> Look {
        let (consul, path) = (self.consul.clone(), session::path(&self.key));
        Box::pin(async move {
            let sent = now();
            let seen = consul.blocking(&path, &mut cursor, WAIT).await;
            Looked { sent, cursor, seen }
        })
    }

    /// Takes in who holds the lock; says whether the next look may wait for a change.
    fn see(
        &self,
        candidate: &mut Candidate,
        sent: Instant,
        seen: Result<Option<ConsulAnswer>, ConsulError>,
        known: &mut Known,
    ) -> bool {
        match seen {
            Ok(None) => true,
            Ok(Some(answer)) => {
                let key = answer.json::<Vec<Key>>("GET (the key)").ok().and_then(|keys| keys.into_iter().next());
                let (holder, index) = match &key {
                    Some(key) => (key.session.as_deref(), key.modify_index),
                    None => (None, answer.index.unwrap_or_default()),
                };
                let is_news = candidate.seen(holder, index, sent, now());
                let value = key.as_ref().filter(|key| key.session.is_some()).and_then(|key| key.value.as_deref());
                known.led_by = value.and_then(decoded).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                self.tell(candidate, known);
                is_news
            }
            // The calls of the session tell of it in the health check; a lock may be free by now.
            Err(_) => {
                candidate.unseen();
                true
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_is_degraded_until_the_call_that_failed_succeeds() {
        let away = ConsulError::Unreachable { call: "PUT renew".into(), source: "no connection".into() };
        let forbidden = ConsulError::Refused {
            call: "PUT lock".into(),
            status: StatusCode::FORBIDDEN,
            message: "Permission denied".into(),
        };
        let mut known = Known::default();
        assert_eq!(known.told(None), Ok("nobody leads yet".into()));
        known.called(Some(&away));
        // A look that was answered from before.
        known.led_by = Some("two".into());
        for token in [None, Some(7)] {
            assert!(known.told(token).is_err_and(|why| why.contains("no connection")), "{token:?}");
        }
        known.called(None);
        assert_eq!(known.told(None), Ok("led by two".into()));
        assert_eq!(known.told(Some(7)), Ok("leads, fencing token 7".into()));
        // Renewals succeed without key:write.
        known.tried(Some(&forbidden));
        known.called(None);
        assert!(known.told(None).is_err_and(|why| why.contains("key:write") && why.contains("Permission denied")));
        known.tried(Some(&away));
        known.tried(None);
        assert_eq!(known.told(None), Ok("led by two".into()));
    }
}
