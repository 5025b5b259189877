//! Background tasks and hooks of a service that runs in the test's process.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use chassis::{
    Chassis,
    tasks::{Backoff, Policy, Restart},
    testing::TestService,
};
use serde_json::Value;
use tokio::{
    sync::watch,
    time::{interval, timeout},
};

use crate::support::process::PATIENCE;

async fn task_check(service: &TestService, status: &str) -> Value {
    let mut tick = interval(Duration::from_millis(10));
    let looks = async {
        loop {
            tick.tick().await;
            let health = service.operator("/health").await.unwrap().json();
            let check = &health["checks"]["background:worker"];
            if check["status"] == status {
                return check.clone();
            }
        }
    };
    timeout(PATIENCE, looks).await.unwrap_or_else(|_| panic!("the worker's check never gets {status}"))
}

#[tokio::test]
async fn a_task_that_panics_is_started_again_and_turns_up_when_it_runs_stable() {
    let runs = watch::Sender::new(0);
    let mut seen = runs.subscribe();
    let backoff = Backoff { stable_after: Duration::from_millis(300), ..Backoff::default() };
    let policy = Policy { restart: Restart::OnFailure, backoff, ..Policy::default() };
    let make = move |chassis: Chassis| {
        chassis.background("worker", policy, move |stop| {
            runs.send_modify(|runs| *runs += 1);
            let first = *runs.borrow() == 1;
            async move {
                assert!(!first, "tripped");
                stop.cancelled().await;
                Ok::<_, Infallible>(())
            }
        })
    };
    let service = TestService::start(make).await.unwrap();
    let check = task_check(&service, "degraded").await;
    assert!(check["message"].as_str().unwrap().starts_with("panicked: tripped; started again after"), "{check}");
    timeout(PATIENCE, seen.wait_for(|runs| *runs == 2)).await.expect("it is started again").unwrap();
    task_check(&service, "up").await;
    assert_eq!(service.get("/readyz").await.unwrap().status, 200);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn hooks_run_last_added_first_after_the_tasks_whatever_one_of_them_does() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let step = |name: &'static str| {
        let order = order.clone();
        move || order.lock().unwrap().push(name)
    };
    let (task, first, last) = (step("task"), step("first"), step("last"));
    let make = move |chassis: Chassis| {
        chassis
            .background("worker", Restart::Always, move |stop| {
                let task = task.clone();
                async move {
                    stop.cancelled().await;
                    task();
                    Ok::<_, Infallible>(())
                }
            })
            .on_shutdown("first", || async move { first() })
            .on_shutdown("hanging", std::future::pending)
            .on_shutdown("panicking", || async {
                if true {
                    panic!("a hook of the test's")
                }
            })
            .on_shutdown("last", || async move { last() })
    };
    let service = TestService::builder().set("shutdown.grace", "0s").start(make).await.unwrap();
    timeout(PATIENCE, service.stop()).await.expect("a bounded stop").unwrap();
    assert_eq!(*order.lock().unwrap(), ["task", "last", "first"]);
}
