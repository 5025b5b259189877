//! Instances that are processes of their own: frozen, killed, and replaced one after the other under load.

use std::time::Duration;

use chassis::testing::TestServiceBuilder;
use inventory::proto::{GetStockRequest, inventory_client::InventoryClient};
use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::{
    consul::Agent,
    pace::{PATIENCE, Pace, setting},
    process::{Quickstart, Service},
    replica::Caller,
};

const CALLERS: usize = 8;

/// Limits the attempts to a time that a frozen instance costs, and that a working one never needs on this machine.
fn impatient(builder: TestServiceBuilder) -> TestServiceBuilder {
    let attempt = Pace::measure().at_least(Duration::from_millis(300));
    let builder = builder.set("clients.shop.attempt_timeout", setting(attempt));
    // All attempts of a call may wait, one after the other.
    builder.set("clients.shop.timeout", setting(5 * attempt))
}

fn instance() -> Quickstart {
    Quickstart::example("inventory").set("discovery.register", "none").set("log.access.enabled", "false")
}

fn registered(agent: &Agent) -> Quickstart {
    Quickstart::example("inventory")
        .set("consul.address", &agent.address())
        .set("discovery.register", "consul")
        .set("discovery.host", "127.0.0.1")
        // Longer than the registry takes to tell the callers.
        .set("shutdown.drain_delay", "500ms")
        .set("log.access.enabled", "false")
}

async fn start(count: usize, make: impl Fn() -> Quickstart) -> Vec<Service> {
    let mut services = Vec::new();
    for _ in 0..count {
        services.push(make().start().await);
    }
    services
}

/// Waits until the agent has so many instances in good health.
async fn passing(agent: &Agent, instances: usize) {
    let path = "/v1/health/service/inventory?passing";
    agent.eventually(path, |found| found.as_array().is_some_and(|found| found.len() == instances)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_instance_costs_no_call_and_gets_calls_again_when_it_thaws() {
    let services = start(3, instance).await;
    let addresses: Vec<_> = services.iter().map(|service| service.http.to_string()).collect();
    let caller = Caller::with(&format!("static://{}", addresses.join(",")), |builder| {
        let builder = impatient(builder).set("clients.shop.breaker.open_wait", "200ms");
        builder.set("clients.shop.breaker.max_open_wait", "1s")
    })
    .await;
    caller.calls(300, CALLERS).await.none_failed();

    services[0].process.signal(Signal::STOP);
    caller.calls(2_000, CALLERS).await.none_failed();
    // Seven failures in a row open the breaker, and attempts that are under way then wait too; after each wait of the breaker
    // three probes at a time.
    let attempts = caller.attempts(services[0].http).await;
    let most = 7 + CALLERS as u64 + 3 * attempts.opened;
    assert!((1..=most).contains(&attempts.timed_out), "{attempts:?} at the frozen instance, at most {most} may wait");

    services[0].process.signal(Signal::CONT);
    tokio::time::timeout(PATIENCE, async {
        loop {
            caller.calls(100, CALLERS).await.none_failed();
            if caller.dependency().await["status"] == "up" {
                return;
            }
        }
    })
    .await
    .expect("its breaker closes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_three_instances_under_load_fails_no_call() {
    let agent = Agent::start().await;
    let mut services = start(3, || registered(&agent)).await;
    passing(&agent, 3).await;
    let caller = Caller::with("consul://inventory", |builder| builder.set("consul.address", agent.address())).await;
    let restarts = async {
        for _ in 0..3 {
            let mut old = services.remove(0);
            assert_eq!(old.terminate().await, 0, "it ends in order");
            services.push(registered(&agent).start().await);
            passing(&agent, 3).await;
        }
    };
    let tally = caller.calls_until(CALLERS, restarts).await;
    tally.none_failed();
    assert!(tally.answered.len() > 500, "a load that means something: {}", tally.answered.len());
}

/// Calls over gRPC by so many callers until something else is done; gives how many were answered, and what failed.
async fn grpc_until(caller: &Caller, callers: usize, done: impl Future<Output = ()>) -> (usize, Vec<tonic::Status>) {
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (mut client, stop) = (InventoryClient::new(caller.channel.clone()), stop.clone());
        tasks.spawn(async move {
            let (mut answered, mut failed) = (0, Vec::new());
            while !stop.is_cancelled() {
                match client.get_stock(GetStockRequest { sku: "pear".to_owned() }).await {
                    Ok(_) => answered += 1,
                    Err(status) => failed.push(status),
                }
            }
            (answered, failed)
        });
    }
    done.await;
    stop.cancel();
    let (mut answered, mut failed) = (0, Vec::new());
    while let Some(task) = tasks.join_next().await {
        let (some, errors) = task.expect("a caller does not panic");
        answered += some;
        failed.extend(errors);
    }
    (answered, failed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_calls_survive_a_restart_in_order_a_kill_and_a_freeze() {
    let agent = Agent::start().await;
    let mut services = start(3, || registered(&agent)).await;
    passing(&agent, 3).await;
    let caller = Caller::with("consul://inventory", |builder| {
        let builder = impatient(builder).set("consul.address", agent.address());
        builder.set("clients.shop.idempotent", "[\"inventory.v1.Inventory/GetStock\"]")
    })
    .await;
    let trouble = async {
        assert_eq!(services.remove(0).terminate().await, 0, "it ends in order");
        services.push(registered(&agent).start().await);
        passing(&agent, 3).await;

        let mut victim = services.remove(0);
        victim.process.signal(Signal::KILL);
        victim.process.exit_code().await;
        services.push(registered(&agent).start().await);

        // Frozen until its breaker has opened: what operators see.
        let frozen = services.remove(0);
        frozen.process.signal(Signal::STOP);
        tokio::time::timeout(PATIENCE, async {
            loop {
                let row = caller.dependency().await;
                let rows = row["endpoints"].as_array().cloned().unwrap_or_default();
                let own = rows.iter().find(|row| row["address"] == frozen.http.to_string().as_str()).cloned();
                if own.is_some_and(|own| own["breaker"]["state"] != "closed") {
                    return;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("its breaker opens");
    };
    let (answered, failed) = grpc_until(&caller, CALLERS, trouble).await;
    // A gRPC answer whose head has come is committed (gRFC A6): the kill may cut one off for each caller, and nothing else may.
    let cut = |status: &tonic::Status| status.code() == tonic::Code::Unavailable && status.message().contains("reset");
    let lost: Vec<_> = failed.iter().filter(|status| !cut(status)).collect();
    assert!(lost.is_empty(), "{} of {} calls failed: {:?}", lost.len(), failed.len() + answered, lost.first());
    assert!(failed.len() <= CALLERS, "{} answers were cut off", failed.len());
    assert!(answered > 300, "a load that means something: {answered}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_that_are_killed_without_a_word_cost_no_call() {
    let agent = Agent::start().await;
    let mut services = start(3, || registered(&agent)).await;
    passing(&agent, 3).await;
    let caller = Caller::with("consul://inventory", |builder| builder.set("consul.address", agent.address())).await;
    caller.calls(200, CALLERS).await.none_failed();
    let kills = async {
        for _ in 0..2 {
            let mut victim = services.remove(0);
            victim.process.signal(Signal::KILL);
            victim.process.exit_code().await;
            // The registry still has it: the breaker alone keeps calls from it.
            services.push(registered(&agent).start().await);
        }
    };
    caller.calls_until(CALLERS, kills).await.none_failed();
    caller.calls(1_000, CALLERS).await.none_failed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consul_gone_while_calls_go_on_costs_no_call_and_says_so() {
    let mut agent = Agent::start().await;
    let _services = start(2, || registered(&agent)).await;
    passing(&agent, 2).await;
    let caller = Caller::with("consul://inventory", |builder| builder.set("consul.address", agent.address())).await;
    caller.calls(100, CALLERS).await.none_failed();
    agent.kill().await;
    let told = async {
        tokio::time::timeout(PATIENCE, async {
            while caller.dependency().await["status"] != "degraded" {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the last known list is in force, and that is told");
    };
    caller.calls_until(CALLERS, told).await.none_failed();
    // Back, and empty: the instances register again by themselves, and the callers lose nobody meanwhile.
    agent.forget();
    agent.begin().await;
    caller.calls_until(CALLERS, passing(&agent, 2)).await.none_failed();
}
