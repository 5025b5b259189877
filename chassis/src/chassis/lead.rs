//! Leadership: candidates of this instance, and their campaigns, which begin when the instance serves.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use opentelemetry::KeyValue;
use tokio_util::sync::CancellationToken;

use super::{Chassis, Core, Listening};
use crate::{
    cli::Command,
    consul::{Consul, leader::Campaign, session::Scope},
    discovery::RegistryKind,
    error::{Error, Result},
    health::Criticality,
    leader::Leader,
    shutdown::Phase,
    tasks::Restart,
    telemetry::{names, names::attribute},
};

/// The candidates of this instance by name.
#[derive(Clone, Default)]
pub(super) struct Leaders(Arc<Mutex<BTreeMap<String, Leader>>>);

impl Leaders {
    /// The candidate of this name, and whether it is new.
    fn entry(&self, name: &str) -> (Leader, bool) {
        let mut leaders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match leaders.get(name) {
            Some(leader) => (leader.clone(), false),
            None => {
                let leader = Leader::new(name);
                leaders.insert(name.to_owned(), leader.clone());
                (leader, true)
            }
        }
    }

    fn all(&self) -> Vec<Leader> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl<S> Chassis<S> {
    /// A candidate for work that one instance of the service does at a time; see [`leader`](crate::leader).
    ///
    /// The election is by a session of the Consul agent of `[consul]`, on the key `<prefix>/leader/<service>/<name>`. The
    /// instance stands for it once it serves, and gives it back first of all when it stops. The check `leader:<name>` says
    /// who leads, and is degraded while Consul cannot be asked: nobody is elected then. The same name gives the same
    /// candidate.
    ///
    /// # Errors
    /// Exit code 78: a name that is no part of a path, `discovery.register = "memory"`, which knows one process only, or
    /// settings of Consul that make no sense.
    pub fn leader(&self, name: &str) -> Result<Leader> {
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
            return Err(Error::config(format!(
                "Chassis::leader: found the name {name:?}, expected letters, digits, - _ and ."
            )));
        }
        // What is only listed is no candidate, and needs no Consul.
        if self.command != Command::Serve {
            return Ok(self.core.leaders.entry(name).0);
        }
        let config = self.settings.value();
        if config.discovery.register == RegistryKind::Memory {
            return Err(Error::config(format!(
                "discovery.register: found \"memory\", but the leadership {name:?} is decided among processes, by Consul; set \
                 discovery.register = \"consul\", or \"none\" with consul.address"
            )));
        }
        let consul = Consul::new(&config.consul)?;
        let (leader, new) = self.core.leaders.entry(name);
        if !new {
            return Ok(leader);
        }
        let health = self.core.health.clone();
        let identity = self.core.identity.clone();
        let scope = Scope::of(&config.consul);
        let config = config.consul.leader.clone();
        let (handle, core) = (leader.clone(), Arc::downgrade(&self.core));
        self.core.tasks.spawn(format!("leader:{name}"), Restart::OnFailure, move |ended| {
            let campaign = Campaign {
                consul: consul.clone(),
                leader: handle.clone(),
                key: key(&config.prefix, &identity.service, handle.name()),
                instance: identity.instance_id.clone(),
                config: config.clone(),
                scope: scope.clone(),
                health: health.own_reporter(format!("leader:{}", handle.name()), Criticality::NotCritical),
            };
            // Weak: the core owns the tasks.
            let (core, handle) = (core.upgrade(), handle.clone());
            async move {
                match core {
                    Some(core) => stand(campaign, core, ended).await,
                    None => handle.close(),
                }
                Ok::<_, Infallible>(())
            }
        });
        Ok(leader)
    }
}

/// `<prefix>/leader/<service>/<name>`; a key of Consul does not begin with a slash.
fn key(prefix: &str, service: &str, name: &str) -> String {
    format!("{prefix}/leader/{service}/{name}", prefix = prefix.trim_matches('/')).trim_start_matches('/').to_owned()
}

/// Campaigns from when the instance serves to when it drains.
async fn stand(campaign: Campaign, core: Arc<Core>, ended: CancellationToken) {
    campaign.health.up_with("stands for election when the instance serves");
    let (mut bound, shutdown, leader) = (core.bound.subscribe(), core.shutdown.clone(), campaign.leader.clone());
    drop(core);
    let serves = tokio::select! {
        biased;
        () = ended.cancelled() => false,
        bound = bound.wait_for(|bound| *bound != Listening::NotYet) => {
            bound.is_ok_and(|bound| matches!(*bound, Listening::At(_)))
        }
    };
    if !serves {
        leader.close();
        return;
    }
    let stop = ended.child_token();
    let mut campaign = std::pin::pin!(campaign.run(stop.clone()));
    tokio::select! {
        biased;
        () = &mut campaign => return,
        () = shutdown.reached(Phase::Draining) => stop.cancel(),
    }
    campaign.await;
}

impl Core {
    /// Shows who leads in the metrics.
    pub(super) fn observe_leaders(&self) {
        let leaders = self.leaders.clone();
        self.telemetry.metrics.observe_gauge(&names::LEADER, move || {
            let one = |leader: &Leader| {
                let name = KeyValue::new(attribute::LEADER_NAME, leader.name().to_owned());
                (vec![name], f64::from(u8::from(leader.is_leader())))
            };
            leaders.all().iter().map(one).collect()
        });
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_key_begins_with_a_slash() {
        for (prefix, key) in [("/chassis/", "chassis/leader/orders/billing"), ("", "leader/orders/billing")] {
            assert_eq!(super::key(prefix, "orders", "billing"), key);
        }
    }
}
