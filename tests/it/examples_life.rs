//! The examples about the life of a process: its stop, its work beside the requests, and the one that is about tests.

use chassis::testing::TestService;
use rustix::process::Signal;
use serde_json::json;

use crate::support::{
    consul::Agent,
    http1,
    process::{Quickstart, Service},
    telemetry::eventually,
};

#[tokio::test]
async fn graceful_shutdown_a_request_that_is_being_served_ends_and_then_the_hook_runs() {
    let mut service = Quickstart::example("graceful-shutdown").start().await;
    let address = service.http;
    let asked = tokio::spawn(async move { http1::get(address, "/slow/1000").await });
    service.process.says("work begins").await;
    service.process.signal(Signal::TERM);
    service.process.says("draining").await;
    assert_eq!(service.operator("/readyz").await.status, 503);
    let answer = asked.await.unwrap();
    assert_eq!((answer.status, answer.json()), (200, json!("done")));
    assert_eq!(service.process.exit_code().await, 0);
    let lines = service.process.stdout();
    let at = |text: &str| lines.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("no {text}"));
    assert!(at("draining") < at("work ends") && at("work ends") < at("the store is closed"), "{lines:#?}");
}

async fn swept(service: &Service) -> u64 {
    service.get("/swept").await.json().as_u64().unwrap()
}

#[tokio::test]
async fn background_job_that_fails_is_told_and_started_again() {
    let mut service = Quickstart::example("background-job").set("app.every", "10ms").start().await;
    let check = async || service.operator("/health").await.json()["checks"]["background:sweep"].take();
    let told = eventually("the failure is told", async || {
        Some(check().await)
            .filter(|check| check["message"].as_str().is_some_and(|told| told.contains("the broom broke")))
    })
    .await;
    assert_ne!(told["status"], "up", "{told}");
    eventually("it sweeps again", async || (swept(&service).await > 3).then_some(())).await;
    assert_eq!(service.get("/readyz").await.status, 200, "requests are still answered");
    let metrics = service.operator("/metrics").await.body;
    let restarts = metrics.lines().find(|line| line.starts_with("chassis_background_restarts_total{"));
    assert!(restarts.is_some_and(|line| line.contains("sweep") && !line.ends_with(" 0")), "{restarts:?}");
    assert_eq!(service.terminate().await, 0);
    assert!(service.process.logged("background task aborted: it did not end before the deadline").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn background_job_of_a_leader_is_done_by_one_instance_and_taken_over_by_another() {
    let agent = Agent::start().await;
    let instance = || {
        Quickstart::example("background-job")
            .set("app.every", "20ms")
            .set("app.only_leader", "true")
            .set("consul.address", &agent.address())
    };
    let mut first = instance().start().await;
    eventually("the first one sweeps", async || (swept(&first).await > 0).then_some(())).await;
    let mut second = instance().start().await;
    let before = swept(&first).await;
    eventually("the first one goes on", async || (swept(&first).await > before + 3).then_some(())).await;
    assert_eq!(swept(&second).await, 0, "only the leader sweeps");
    assert_eq!(first.terminate().await, 0);
    eventually("the second one takes over", async || (swept(&second).await > 0).then_some(())).await;
    assert_eq!(second.terminate().await, 0);
}

/// What `test-a-service` asks for rates.
struct Rates;

#[derive(serde::Serialize, schemars::JsonSchema)]
struct Rate {
    thousandths: u64,
}

#[chassis::service]
impl Rates {
    #[get("/rates/{currency}")]
    async fn rate(&self, currency: String) -> Rate {
        Rate { thousandths: 100 * currency.len() as u64 }
    }
}

#[tokio::test]
async fn test_a_service_is_a_service() {
    let rates = TestService::start(|chassis: chassis::Chassis| chassis.mount(Rates)).await.unwrap();
    let target = format!("http://{}", rates.http());
    let mut service = Quickstart::example("test-a-service").set("clients.rates.target", &target).start().await;
    let answer = service.get("/prices/pear/usd").await;
    assert_eq!((answer.status, answer.json()), (200, json!(36)));
    assert_eq!(service.terminate().await, 0);
    rates.stop().await.unwrap();
}
