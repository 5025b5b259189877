//! Keeps this instance's entry with the agent true.

use std::time::Duration;

use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    agent::{AgentCheck, AgentCheckKind, AgentService, Weights},
    client::{CALL_TIMEOUT, Consul, ConsulError},
    config::{CheckConfig, CheckKind},
    cursor::AWAY,
};
use crate::{
    discovery::{Progress, ProgressState, Registrar, Registration, Standing, Task},
    tasks::Backoff, // floor: a pure rule of waiting
};

/// Instances that were forgotten together do not come back as one: each waits up to this long. Chosen: Kratos takes 5 s, and
/// an agent has the instances of one machine only.
const JITTER: Duration = Duration::from_secs(1);
/// How long the agent is asked to say nothing while it holds the entry. Default as Kratos' for its queries.
const WATCH: Duration = Duration::from_secs(55);
/// The time between two answers of the agent that it has the entry, when they come at once. Chosen.
const WATCH_SPACING: Duration = Duration::from_secs(1);
/// How long one call of the way out may take, and a registration that is under way when the way out begins. Chosen: an agent
/// beside the instance answers within milliseconds, and one that was frozen or restarted hears of it by the next call.
const LEAVE_CALL: Duration = Duration::from_millis(500);
/// The waits between the calls of the way out. Chosen: a restarted agent is asked within half a second.
const LEAVE_BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(100), longest: Duration::from_millis(500), stable_after: Duration::ZERO };
/// How often it is tried when the agent, as far as is known, never had the entry: it heard and could not answer, at most.
const LEAVE_TRIES: u32 = 3;

/// Registers this instance with the Consul agent.
///
/// With a TTL check the readiness is pushed at once when it changes, and again after each third of the TTL. That the agent is
/// gone, or has let the entry go, is noticed at once by a query that it holds, at the next renewal where it holds none; this
/// instance registers again then. While the agent is away it is asked at least once a second, so the entry is there within 2 s
/// of its return, however long it was away.
///
/// The first registration takes out other entries of the same name at the same address and port of this agent: an instance
/// that was killed leaves one, which an `http` or `grpc` check would find passing for ever, since this instance answers it.
/// Two processes cannot listen at one address, unless they share it by SO_REUSEPORT or behind a proxy of their own. Such a
/// neighbour that lives notices and registers again, and takes nothing out when it does.
///
/// The way out is tried until the agent has let the entry go, or refuses to: the one who keeps the entry ends that by dropping
/// the future.
#[derive(Debug, Clone)]
pub struct ConsulRegistrar {
    consul: Consul,
    check: CheckConfig,
    progress: watch::Sender<Progress>,
}

impl ConsulRegistrar {
    /// Registers with this agent.
    #[must_use]
    pub fn new(consul: Consul, check: CheckConfig) -> Self {
        Self { consul, check, progress: watch::Sender::new(Progress::default()) }
    }

    /// How often the entry is renewed.
    fn renewal(&self) -> Duration {
        self.check.ttl.get() / 3
    }

    /// How long one call may take: one that hangs leaves time for two others before the TTL is over.
    fn limit(&self) -> Duration {
        CALL_TIMEOUT.min(self.renewal())
    }

    async fn run(self, registration: Registration, mut standing: watch::Receiver<Standing>, stop: CancellationToken) {
        let mut entry = self.entry(&registration);
        let renewal = self.renewal();
        let refusing = Backoff { longest: renewal.max(AWAY.longest), ..AWAY };
        let mut attempt = Attempt { held: false, told: false, cleared: false };
        let mut failures = 0;
        // Goes on beside renewals: each held query that is dropped stays with the agent until its time is over.
        let mut watch = None;
        // The watch has said that the entry is lost; the next call tells whether that is so.
        let mut doubted = false;
        while !stop.is_cancelled() {
            let now = standing.borrow_and_update().clone();
            // A renewal that hangs is dropped by the stop at once. A registration gets a moment: one that the agent carries
            // out later would undo the way out.
            let moment = if attempt.held { Duration::ZERO } else { LEAVE_CALL };
            let attempted = tokio::select! {
                biased;
                attempted = self.attempt(&mut attempt, &mut entry, &now) => attempted,
                () = past(&stop, moment) => break,
            };
            let (wait, changes) = match attempted {
                Ok(Outcome::Held) => {
                    failures = 0;
                    self.succeeded(&entry);
                    (renewal, true)
                }
                Ok(Outcome::Forgotten) => {
                    attempt.held = false;
                    self.failed(&entry, (u8::MAX, 0), "the agent has forgotten this instance; registering again");
                    // The waits while it was away have spread the instances already.
                    let spread = if failures > 0 { Duration::ZERO } else { JITTER.min(renewal) };
                    (spread.mul_f64(fastrand::f64()), false)
                }
                Err(error) => {
                    failures += 1;
                    self.failed(&entry, error.kind(), &error.to_string());
                    let backoff = if error.is_away() { AWAY } else { refusing };
                    (backoff.wait(failures, fastrand::f64()), false)
                }
            };
            // An agent whose words do not agree is believed to hold the entry until the next renewal.
            let watches = changes && !std::mem::take(&mut doubted);
            if !changes {
                watch = None;
            }
            let lost = watch.get_or_insert_with(|| Box::pin(self.clone().lost(entry.id.clone())));
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(wait) => {}
                () = changed(&mut standing), if changes => {}
                () = lost, if watches => (watch, doubted) = (None, true),
            }
        }
        if attempt.told {
            self.leave(&entry, attempt.held).await;
        }
    }

    /// Registers, or renews what is registered.
    async fn attempt(
        &self,
        attempt: &mut Attempt,
        entry: &mut AgentService,
        now: &Standing,
    ) -> Result<Outcome, ConsulError> {
        let (ttl, limit) = (self.check.kind == CheckKind::Ttl, self.limit());
        if attempt.held && !attempt.cleared {
            self.clear(attempt, entry).await;
        }
        if attempt.held && !ttl {
            return Ok(match self.consul.holds_service(&entry.id, limit).await? {
                true => Outcome::Held,
                false => Outcome::Forgotten,
            });
        }
        if !attempt.held {
            // The truth from the first moment on: nobody is sent here before this instance is ready.
            entry.check.status = now.health.as_str();
            attempt.told = true;
            self.consul.register(entry, limit).await?;
            attempt.held = true;
            if !attempt.cleared {
                self.clear(attempt, entry).await;
            }
        }
        if ttl {
            match self.consul.update_check(&entry.check.id, now.health, &now.note, limit).await {
                Err(error) if error.is_unknown() => return Ok(Outcome::Forgotten),
                other => other?,
            }
        }
        Ok(Outcome::Held)
    }

    /// Takes out what others have left at this instance's address; once for each start, so that a neighbour that lives after
    /// all is left alone when it has registered again. Failing is no failure of the registration: it is tried again with the
    /// next renewal, unless the agent refuses.
    async fn clear(&self, attempt: &mut Attempt, entry: &AgentService) {
        let cleared = async {
            let limit = self.limit();
            let ids = self.consul.services_at(&entry.name, &entry.address, entry.port, limit).await?;
            for id in ids.iter().filter(|id| **id != entry.id) {
                self.consul.deregister(id, limit).await?;
                tracing::info!(service = entry.name, id, "took out the entry of another instance at this address");
            }
            Ok::<_, ConsulError>(())
        };
        match cleared.await {
            Ok(()) => attempt.cleared = true,
            Err(error) if error.is_away() => {}
            Err(error) => {
                attempt.cleared = true;
                tracing::warn!(service = entry.name, %error, "entries of others at this address could not be looked for");
            }
        }
    }

    /// Waits until the agent holds the entry no more, or is gone; for ever when it cannot say.
    async fn lost(self, id: String) {
        let mut hash = String::new();
        loop {
            match self.consul.watch_service(&id, &hash, WATCH).await {
                Ok(Some(now)) if !now.is_empty() => hash = now,
                Ok(None) => return,
                // The next call is the renewal, and its outcome is what counts.
                Err(error) if error.is_away() => return sleep(AWAY.first.mul_f64(fastrand::f64())).await,
                Ok(Some(_)) | Err(_) => std::future::pending().await,
            }
            sleep(WATCH_SPACING).await;
        }
    }

    async fn leave(&self, entry: &AgentService, held: bool) {
        let after = self.check.deregister_after;
        let mut failures = 0;
        loop {
            let error = match self.consul.deregister(&entry.id, LEAVE_CALL).await {
                Ok(()) => {
                    tracing::info!(service = entry.name, id = entry.id, "deregistered");
                    self.progress.send_modify(|progress| {
                        progress.succeeded += 1;
                        progress.state = ProgressState::Left;
                    });
                    return;
                }
                Err(error) => error,
            };
            self.progress.send_modify(|progress| progress.failed += 1);
            failures += 1;
            if error.is_final() || (!held && failures == LEAVE_TRIES) {
                tracing::warn!(%error, %after, "not deregistered: consul takes it out by itself after that time");
                return;
            }
            if failures == 1 {
                tracing::warn!(%error, "not deregistered yet; trying on");
            }
            sleep(LEAVE_BACKOFF.wait(failures, fastrand::f64())).await;
        }
    }

    fn succeeded(&self, entry: &AgentService) {
        self.progress.send_modify(|progress| {
            if progress.state != ProgressState::Registered {
                tracing::info!(service = entry.name, id = entry.id, agent = self.consul.address(), "registered");
            }
            progress.succeeded += 1;
            progress.state = ProgressState::Registered;
        });
    }

    /// Said once for each change, not for each try.
    fn failed(&self, entry: &AgentService, kind: (u8, u16), reason: &str) {
        self.progress.send_modify(|progress| {
            let same = matches!(progress.state, ProgressState::Failing { kind: before, .. } if before == kind);
            if !same {
                tracing::warn!(service = entry.name, id = entry.id, reason, "not registered");
                progress.state = ProgressState::Failing { kind, reason: reason.into() };
            }
            progress.failed += 1;
        });
    }

    /// The entry as Consul takes it.
    fn entry(&self, registration: &Registration) -> AgentService {
        let Registration { service, id, host, port, tags, metadata, weight } = registration;
        let check = &self.check;
        let text = |duration: crate::config::Duration| format!("{}ms", duration.get().as_millis());
        // The agent on this machine reaches what the node's own address stands for.
        let asked = match host.as_str() {
            "" => "127.0.0.1".to_owned(),
            host if host.contains(':') => format!("[{host}]"),
            host => host.to_owned(),
        };
        let (interval, timeout) = (text(check.interval), text(check.timeout));
        let kind = match check.kind {
            CheckKind::Ttl => AgentCheckKind::Ttl { ttl: text(check.ttl) },
            CheckKind::Http => AgentCheckKind::Http { url: format!("http://{asked}:{port}/readyz"), interval, timeout },
            CheckKind::Grpc => AgentCheckKind::Grpc { target: format!("{asked}:{port}"), interval, timeout },
        };
        AgentService {
            id: id.clone(),
            name: service.clone(),
            address: host.clone(),
            port: *port,
            tags: tags.clone(),
            meta: metadata.clone(),
            // An instance that warns works: traffic keeps coming, as much as before.
            weights: Weights { passing: *weight, warning: *weight },
            check: AgentCheck {
                id: format!("service:{id}"),
                name: "readiness".to_owned(),
                status: "critical",
                deregister_critical_service_after: text(check.deregister_after),
                kind,
            },
        }
    }
}

impl Registrar for ConsulRegistrar {
    fn keep(&self, registration: Registration, standing: watch::Receiver<Standing>, stop: CancellationToken) -> Task {
        // Of an entry that was kept before nothing is known.
        self.progress.send_modify(|progress| progress.state = ProgressState::Pending);
        Box::pin(self.clone().run(registration, standing, stop))
    }

    fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }
}

/// What is known of the entry.
struct Attempt {
    /// The agent has it, as far as is known.
    held: bool,
    /// The agent was told of it, whether or not it heard.
    told: bool,
    /// What others had left at the address is taken out.
    cleared: bool,
}

enum Outcome {
    Held,
    Forgotten,
}

/// Waits until this long after the stop.
async fn past(stop: &CancellationToken, moment: Duration) {
    stop.cancelled().await;
    sleep(moment).await;
}

/// Waits for a change; for ever when there can be none.
async fn changed(standing: &mut watch::Receiver<Standing>) {
    if standing.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::{Router, extract::Request};
    use http::StatusCode;
    use tokio::{net::TcpListener, task::JoinSet, time::Instant};

    use super::*;
    use crate::{consul::ConsulConfig, discovery::EndpointHealth};

    /// An agent that answers as the test says, or not at all. Its clock is the test's own, which stands still while
    /// somebody has work.
    struct Agent {
        consul: Consul,
        calls: Arc<Mutex<Vec<(Duration, String)>>>,
        _serves: JoinSet<()>,
    }

    impl Agent {
        /// `answer` gets what is called and how often that came before; `None` is silence.
        async fn new(answer: impl Fn(&str, usize) -> Option<u16> + Clone + Send + Sync + 'static) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let calls: Arc<Mutex<Vec<(Duration, String)>>> = Arc::default();
            let (kept, begun) = (calls.clone(), Instant::now());
            let serve = move |request: Request| {
                let call = request.uri().path().split('/').nth(4).unwrap_or_default().to_owned();
                let mut calls = kept.lock().unwrap();
                let before = calls.iter().filter(|(_, other)| *other == call).count();
                let answer = answer(&call, before);
                calls.push((begun.elapsed(), call));
                // What it holds there, and under this id.
                let body = if request.uri().path() == "/v1/agent/services" { "{}" } else { "{\"ContentHash\":\"a\"}" };
                async move {
                    match answer {
                        Some(status) => (StatusCode::from_u16(status).unwrap(), body),
                        None => std::future::pending().await,
                    }
                }
            };
            let mut serves = JoinSet::new();
            serves.spawn(async move { axum::serve(listener, Router::new().fallback(serve)).await.unwrap() });
            let consul = Consul::new(&ConsulConfig { address, ..ConsulConfig::default() }).unwrap();
            Self { consul, calls, _serves: serves }
        }

        /// The calls of this kind, and when they came.
        fn calls(&self, kind: &str) -> Vec<Duration> {
            let calls = self.calls.lock().unwrap();
            calls.iter().filter(|(_, call)| call == kind).map(|(at, _)| *at).collect()
        }

        /// Somebody who registers with it.
        fn registrar(&self, ttl: Duration) -> ConsulRegistrar {
            let check = CheckConfig { ttl: crate::config::Duration(ttl), ..CheckConfig::default() };
            ConsulRegistrar::new(self.consul.clone(), check)
        }
    }

    /// Keeps an entry, in a task; to be stopped by the token.
    fn keep(registrar: &ConsulRegistrar) -> (JoinSet<()>, CancellationToken) {
        let registration = Registration {
            service: "orders".to_owned(),
            id: "orders-1".to_owned(),
            host: String::new(),
            port: 80,
            tags: Vec::new(),
            metadata: std::collections::BTreeMap::new(),
            weight: 1,
        };
        // Nothing changes any more: the receiver alone is left.
        let (_, standing) = watch::channel(Standing { health: EndpointHealth::Passing, note: String::new() });
        let (mut task, stop) = (JoinSet::new(), CancellationToken::new());
        task.spawn(registrar.keep(registration, standing, stop.clone()));
        (task, stop)
    }

    /// Waits until it goes as it should; how long that took.
    async fn goes(registrar: &ConsulRegistrar, as_it_should: impl FnMut(&Progress) -> bool) -> Duration {
        let begun = Instant::now();
        registrar.progress().wait_for(as_it_should).await.unwrap();
        begun.elapsed()
    }

    const TTL: Duration = Duration::from_secs(3);

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_leaves_time_for_two_others_before_the_ttl_is_over() {
        let agent = Agent::new(|_, _| None).await;
        for (ttl, limit) in [(TTL, TTL / 3), (CALL_TIMEOUT * 6, CALL_TIMEOUT)] {
            let registrar = agent.registrar(ttl);
            let _kept = keep(&registrar);
            let took = goes(&registrar, |progress| progress.failed == 1).await;
            // The timer's own grain is a millisecond.
            assert!(took >= limit && took < limit + Duration::from_millis(5), "{took:?} with a TTL of {ttl:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_is_away_is_asked_each_second() {
        const AWAY_FOR: usize = 1_000;
        let agent =
            Agent::new(|call, before| Some(if call == "register" && before < AWAY_FOR { 500 } else { 200 })).await;
        // A third of this TTL is 20 min.
        let registrar = agent.registrar(Duration::from_secs(3_600));
        let _kept = keep(&registrar);
        goes(&registrar, |progress| progress.state == ProgressState::Registered).await;
        let calls = agent.calls("register");
        let longest = calls.windows(2).map(|two| two[1] - two[0]).max().unwrap();
        assert!(calls.len() == AWAY_FOR + 1 && longest <= AWAY.longest + Duration::from_millis(5), "{longest:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_that_is_lost_is_registered_again_before_the_renewal() {
        let agent = Agent::new(|call, before| match (call, before) {
            // Held, held, lost: by the query on the entry, and by the renewal that follows.
            ("orders-1", 2) => Some(404),
            ("update", 1) => Some(404),
            _ => Some(200),
        });
        let agent = agent.await;
        let registrar = agent.registrar(Duration::from_secs(3_600));
        let _kept = keep(&registrar);
        while agent.calls("register").len() < 2 {
            sleep(Duration::from_millis(10)).await;
        }
        let between = agent.calls("register")[1] - agent.calls("register")[0];
        let most = 2 * WATCH_SPACING + JITTER + Duration::from_millis(100);
        assert!(between <= most, "{between:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_cannot_say_what_it_holds_is_not_asked_in_a_hurry() {
        // It refuses, or knows no such path.
        for status in [403, 404] {
            let agent = Agent::new(move |call, _| Some(if call == "orders-1" { status } else { 200 })).await;
            let registrar = agent.registrar(Duration::from_secs(3_600));
            let _kept = keep(&registrar);
            let took = goes(&registrar, |progress| progress.succeeded == 5).await;
            assert!(took >= Duration::from_secs(2_400), "{status}: {took:?}");
            assert!(agent.calls("orders-1").len() <= 5, "{status}: {:?}", agent.calls("orders-1"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_hangs_at_the_stop_is_dropped_and_the_way_out_is_taken_at_once() {
        let agent = Agent::new(|call, before| (call != "update" || before == 0).then_some(200)).await;
        let registrar = agent.registrar(TTL);
        let (mut task, stop) = keep(&registrar);
        goes(&registrar, |progress| progress.state == ProgressState::Registered).await;
        while agent.calls("update").len() < 2 {
            sleep(Duration::from_millis(10)).await;
        }
        stop.cancel();
        let stopped = Instant::now();
        task.join_next().await.unwrap().unwrap();
        assert!(stopped.elapsed() < Duration::from_millis(50), "{:?}", stopped.elapsed());
        assert_eq!((agent.calls("deregister").len(), registrar.progress().borrow().failed), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_way_out_is_tried_until_the_agent_answers_and_no_call_of_it_takes_long() {
        const TIMES: usize = 20;
        // Silence and failures in turn.
        let agent = Agent::new(|call, before| match (call, before) {
            ("deregister", before) if before < TIMES && before % 2 == 0 => None,
            ("deregister", before) if before < TIMES => Some(500),
            _ => Some(200),
        });
        let agent = agent.await;
        let registrar = agent.registrar(TTL);
        let (mut task, stop) = keep(&registrar);
        goes(&registrar, |progress| progress.state == ProgressState::Registered).await;
        stop.cancel();
        task.join_next().await.unwrap().unwrap();
        let calls = agent.calls("deregister");
        assert_eq!((calls.len(), &registrar.progress().borrow().state), (TIMES + 1, &ProgressState::Left));
        let longest = calls.windows(2).map(|two| two[1] - two[0]).max().unwrap();
        assert!(longest <= LEAVE_CALL + LEAVE_BACKOFF.longest + Duration::from_millis(5), "{longest:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_to_let_go_and_an_agent_that_was_never_there_end_the_way_out() {
        for (status, calls) in [(403, 1), (500, LEAVE_TRIES as usize)] {
            let agent = Agent::new(move |_, _| Some(status)).await;
            let registrar = agent.registrar(TTL);
            let (mut task, stop) = keep(&registrar);
            goes(&registrar, |progress| progress.failed == 1).await;
            stop.cancel();
            task.join_next().await.unwrap().unwrap();
            assert_eq!(agent.calls("deregister").len(), calls, "{status}");
        }
    }
}
