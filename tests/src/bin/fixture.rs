//! A service with everything that a stop has to wait for: slow handlers, a background task, hooks, a `main` that takes long.

use std::{convert::Infallible, time::Duration};

use chassis::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the tests ask of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Whether `main` never gets to serve.
    hangs_at_start: bool,
    /// Whether the background task panics the first time.
    task_panics: bool,
    /// Whether the background task does not end when told.
    task_hangs: bool,
    /// Whether it stands for election as `billing`.
    leads: bool,
    /// What `GET /greeting` says.
    #[schemars(extend("x-reloadable" = true))]
    greeting: String,
}

/// Tells of the end of the work that only a leader does.
struct Billing;

impl Drop for Billing {
    fn drop(&mut self) {
        tracing::info!("billing ends");
    }
}

/// Bills for as long as this instance leads.
fn billing(chassis: Chassis<Settings>) -> chassis::Result<Chassis<Settings>> {
    let leader = chassis.leader("billing")?;
    Ok(chassis.background("billing", chassis::tasks::Restart::OnFailure, move |_stop| {
        let leader = leader.clone();
        async move {
            let bill = |term: chassis::leader::Term| async move {
                tracing::info!(term = term.fencing_token(), "billing begins");
                let _billing = Billing;
                std::future::pending::<()>().await;
            };
            leader.run(bill).await;
            Ok::<_, Infallible>(())
        }
    }))
}

struct Fixture {
    settings: tokio::sync::watch::Receiver<std::sync::Arc<Settings>>,
}

#[derive(Serialize)]
struct Text {
    text: String,
}

#[service]
impl Fixture {
    /// Answers after so many milliseconds.
    #[get("/slow/{milliseconds}")]
    async fn slow(&self, milliseconds: u64) -> Text {
        tracing::info!("a slow request has begun");
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        Text { text: "slow".to_owned() }
    }

    /// Opens files until there are no descriptors left, and keeps them.
    #[get("/use-up-descriptors")]
    async fn use_up_descriptors(&self) -> Text {
        static KEPT: std::sync::Mutex<Vec<std::fs::File>> = std::sync::Mutex::new(Vec::new());
        let mut kept = KEPT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        while let Ok(file) = std::fs::File::open("/dev/null") {
            kept.push(file);
        }
        Text { text: "used up".to_owned() }
    }

    /// Greets with the words of the configuration.
    #[get("/greeting")]
    async fn greeting(&self) -> Text {
        Text { text: self.settings.borrow().greeting.clone() }
    }
}

#[chassis::main]
async fn main(chassis: Chassis<Settings>) -> chassis::Result<()> {
    let settings = chassis.settings().clone();
    if settings.hangs_at_start {
        tracing::info!("hanging at start");
        std::future::pending::<()>().await;
    }
    let chassis = if settings.leads { billing(chassis)? } else { chassis };
    let fixture = Fixture { settings: chassis.settings_watch() };
    let mut panics = settings.task_panics;
    chassis
        .mount(fixture)
        .background("worker", chassis::tasks::Restart::Always, move |stop| {
            let panics = std::mem::take(&mut panics);
            let hangs = settings.task_hangs;
            async move {
                assert!(!panics, "the worker tripped");
                tracing::info!("the worker works");
                stop.cancelled().await;
                tracing::info!("the worker was told to stop");
                if hangs {
                    std::future::pending::<()>().await;
                }
                Ok::<_, Infallible>(())
            }
        })
        .on_shutdown("added first", || async { tracing::info!("hook added first") })
        .on_shutdown("added last", || async { tracing::info!("hook added last") })
        .serve()
        .await
}
