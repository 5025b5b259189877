//! Follows the instances of a service by blocking queries.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    agent::Segment,
    client::{Consul, ConsulAnswer},
    cursor::Cursor,
    health::{self, Instances, Skipped},
    memory::{Answer, Recollection},
};
use crate::discovery::{REFRESH_APART, Resolver, Task, Updates};

use crate::clock::now;

/// How long Consul holds a query in which nothing changes. Default as Kratos'. A dead connection that nobody closed is noticed
/// after this, a sixteenth of it and 2 s.
const WAIT: Duration = Duration::from_secs(55);

/// Kinds of answers that cannot be used, beside those of an error.
const UNREADABLE: u8 = u8::MAX;
const FILTERED: u8 = u8::MAX - 1;

/// Which instances of which service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsulQuery {
    /// The service's name.
    pub service: String,
    /// Tags that an instance must all have.
    pub tags: Vec<String>,
    /// The datacenter; that of `[consul]`, or the agent's own, when unset.
    pub datacenter: Option<String>,
    /// The node that the list is sorted from; `_agent` for the agent's own. The order means nothing to the balancer.
    pub near: Option<String>,
    /// The namespace (Consul Enterprise); that of `[consul]` when unset.
    pub namespace: Option<String>,
    /// The admin partition (Consul Enterprise); that of `[consul]` when unset.
    pub partition: Option<String>,
}

/// Follows a service in Consul.
///
/// Instances of every state are asked for: which of them are used is the balancer's decision. While Consul is away or
/// fails, or its access control leaves instances out of the answer, the last list stays ([`Updates::lost`]). When it comes back
/// empty, as a development agent does, instances that it has not yet heard of again are kept for a while: they are about to
/// register themselves. Instances without a port from 1 to 65535 are passed over, with a warning.
#[derive(Debug, Clone)]
pub struct ConsulResolver {
    consul: Consul,
    service: Arc<str>,
    path: Arc<str>,
}

impl ConsulResolver {
    /// Follows what the query asks for.
    #[must_use]
    pub fn new(consul: Consul, query: &ConsulQuery) -> Self {
        let mut path = format!("/v1/health/service/{}", Segment(&query.service));
        let mut mark = '?';
        let mut add = |key: &str, value: &str| {
            path.push(mark);
            mark = '&';
            path.push_str(key);
            path.push('=');
            path.extend(utf8_percent_encode(value, NON_ALPHANUMERIC));
        };
        query.tags.iter().for_each(|tag| add("tag", tag));
        // Before those of the client, so that these count.
        for (key, value) in [
            ("dc", &query.datacenter),
            ("near", &query.near),
            ("ns", &query.namespace),
            ("partition", &query.partition),
        ] {
            if let Some(value) = value {
                add(key, value);
            }
        }
        Self { consul, service: query.service.as_str().into(), path: path.into() }
    }

    async fn run(self, updates: Updates) {
        let mut cursor = Cursor::new();
        let mut memory = Recollection::default();
        let mut away = None;
        let mut skipped = Skipped::default();
        let mut asked_for = now();
        loop {
            let wait = memory.wait(now()).map_or(WAIT, |left| left.min(WAIT));
            let failures = cursor.failures();
            let answered = tokio::select! {
                biased;
                answered = self.consul.blocking(&self.path, &mut cursor, wait) => Some(answered),
                () = asked(&updates, asked_for) => None,
            };
            let Some(answered) = answered else {
                // A held query that has lost its agent says nothing for a minute. One that need not wait is answered at once.
                cursor.reset();
                asked_for = now();
                continue;
            };
            let lost = match answered {
                Ok(Some(answer)) => match self.read(&answer) {
                    Ok(found) => {
                        self.tell_skipped(&mut skipped, found.skipped);
                        let answer = Answer { endpoints: found.endpoints, index: answer.index.unwrap_or(0) };
                        updates.set(memory.take(answer, now()));
                        None
                    }
                    Err(lost) => {
                        cursor.rejected(failures, now(), fastrand::f64());
                        Some(lost)
                    }
                },
                Ok(None) => {
                    if let Some(endpoints) = memory.forget(now()) {
                        updates.set(endpoints);
                    }
                    None
                }
                Err(error) => Some((error.kind(), error.to_string())),
            };
            // Said once for each change, not for each try.
            match (&lost, away) {
                (Some((kind, reason)), before) if before != Some(*kind) => {
                    tracing::warn!(service = &*self.service, reason, "consul cannot be followed; the last list stays");
                }
                (None, Some(_)) => tracing::info!(service = &*self.service, "consul is followed again"),
                _ => {}
            }
            away = lost.as_ref().map(|(kind, _)| *kind);
            if let Some((_, reason)) = lost {
                memory.failed();
                updates.lost(now(), reason);
            }
        }
    }

    /// What an answer names, or why that cannot be relied on.
    fn read(&self, answer: &ConsulAnswer) -> Result<Instances, ((u8, u16), String)> {
        let lost =
            |kind, why: &dyn fmt::Display| ((kind, 0), format!("GET {}{}: {why}", self.consul.address(), self.path));
        if answer.filtered {
            // What is left may be nothing at all.
            return Err(lost(
                FILTERED,
                &"Consul's access control has left instances out; the token needs service:read for this service and \
                  node:read for its nodes",
            ));
        }
        health::instances(&answer.body).map_err(|error| lost(UNREADABLE, &error))
    }

    /// Warns of instances that nobody can call, once for each change.
    fn tell_skipped(&self, before: &mut Skipped, now: Skipped) {
        if *before == now {
            return;
        }
        if let Some((id, port)) = &now.first {
            tracing::warn!(
                service = &*self.service,
                skipped = now.count,
                first = id,
                "passed over instances: the port of {id} is {port}, expected 1 to 65535; register them with the port that they \
                 listen on"
            );
        }
        *before = now;
    }
}

/// Waits until a failing connection asks for the list, and long enough after the last time.
async fn asked(updates: &Updates, last: Instant) {
    updates.asked().await;
    tokio::time::sleep_until((last + REFRESH_APART.mul_f64(1.0 + 0.1 * fastrand::f64())).into()).await;
}

impl Resolver for ConsulResolver {
    fn follow(&self, updates: Updates) -> Task {
        Box::pin(self.clone().run(updates))
    }
}
