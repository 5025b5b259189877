//! How do I do work beside the requests? `cargo run -p background-job`, then `curl localhost:8080/swept` a few times.
//!
//! A job is a function under supervision. Here every third sweep fails: the job is started again after a back-off, the check
//! `background:sweep` in `curl localhost:8081/health` says why, and `chassis_background_restarts_total` counts. A job that
//! panics is treated alike. When the service stops the job is told, and waited for.
//!
//! Try next: `--set app.every=100ms`, until it has failed three times in a row, and look at its check. With a Consul agent
//! (`consul agent -dev`), start two instances with `--set app.only_leader=true`, the second one also with
//! `--set http.address=127.0.0.1:8082 --set admin.address=127.0.0.1:8083`: one of them sweeps; stop it, and the other does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use chassis::{
    config,
    prelude::*,
    tasks::{Backoff, Policy, Restart},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The service's own settings: the section `[app]`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// How long it rests between two sweeps.
    every: config::Duration,
    /// Whether only one of all instances sweeps; needs Consul.
    only_leader: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { every: config::Duration::from_secs(1), only_leader: false }
    }
}

/// The job: it ends only by failing. It may be dropped at any `await`.
async fn sweep(swept: Arc<AtomicU32>, every: Duration) -> Result<(), String> {
    loop {
        tokio::time::sleep(every).await;
        let count = swept.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::info!(count, "swept");
        if count.is_multiple_of(3) {
            return Err("the broom broke".to_owned());
        }
    }
}

struct Floor {
    swept: Arc<AtomicU32>,
}

#[service]
impl Floor {
    /// How often it was swept.
    #[get("/swept")]
    async fn swept(&self) -> u32 {
        self.swept.load(Ordering::Relaxed)
    }
}

#[chassis::main]
async fn main(chassis: Chassis<Settings>) -> chassis::Result<()> {
    let (every, only_leader) = (chassis.settings().every.get(), chassis.settings().only_leader);
    let swept = Arc::<AtomicU32>::default();
    let floor = Floor { swept: swept.clone() };
    let backoff = Backoff { first: Duration::from_millis(500), ..Backoff::default() };
    let policy = Policy { restart: Restart::OnFailure, backoff, ..Policy::default() };
    let job = move || sweep(swept.clone(), every);

    let chassis = if only_leader {
        let leader = chassis.leader("sweep")?;
        chassis.background("sweep", policy, move |_stop| {
            let (leader, job) = (leader.clone(), job.clone());
            // Waits until this instance leads; `None` when the service stops.
            async move { leader.run(|_term| job()).await.unwrap_or(Ok(())) }
        })
    } else {
        chassis.background("sweep", policy, move |stop| {
            let job = job();
            async move { stop.run_until_cancelled(job).await.unwrap_or(Ok(())) }
        })
    };
    chassis.mount(floor).serve().await
}
