//! Servers of HTTP/2 that stop in order under load, or end their connections by age: no call is lost, whatever its method.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use inventory::proto::{GetStockRequest, inventory_client::InventoryClient};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::support::{
    process::{PATIENCE, Quickstart, Service},
    python,
    replica::Caller,
};

const CALLERS: usize = 16;
/// How often the servers of a test are stopped, unless `CHASSIS_TEST_STOPS` says otherwise.
const STOPS: usize = 10;

/// How many calls are answered between two stops, at least.
const BETWEEN: usize = 200;

fn stops() -> usize {
    std::env::var("CHASSIS_TEST_STOPS").ok().and_then(|stops| stops.parse().ok()).unwrap_or(STOPS)
}

async fn instance(address: &str, drain: &str) -> Service {
    Quickstart::example("inventory")
        .set("discovery.register", "none")
        .set("log.access.enabled", "false")
        .set("http.address", address)
        .set("shutdown.drain_delay", drain)
        .start()
        .await
}

/// Calls of a method that is not idempotent, until something else is done, which sees how many were answered; gives what
/// failed.
async fn calls_until(
    caller: &Caller,
    answered: &Arc<AtomicUsize>,
    done: impl Future<Output = ()>,
) -> Vec<tonic::Status> {
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    for _ in 0..CALLERS {
        let (mut client, stop) = (InventoryClient::new(caller.channel.clone()), stop.clone());
        let answered = Arc::clone(answered);
        tasks.spawn(async move {
            let mut failed = Vec::new();
            while !stop.is_cancelled() {
                match client.get_stock(GetStockRequest { sku: "pear".to_owned() }).await {
                    Ok(_) => {
                        answered.fetch_add(1, Relaxed);
                    }
                    Err(status) => failed.push(status),
                }
            }
            failed
        });
    }
    done.await;
    stop.cancel();
    let mut failed = Vec::new();
    while let Some(task) = tasks.join_next().await {
        failed.extend(task.expect("a caller does not panic"));
    }
    failed
}

/// Waits until so many more calls are answered.
async fn more(answered: &AtomicUsize, calls: usize) {
    let enough = answered.load(Relaxed) + calls;
    timeout(PATIENCE, async {
        while answered.load(Relaxed) < enough {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("calls are answered");
}

fn none(failed: &[tonic::Status], answered: &AtomicUsize) {
    let first: Vec<_> = failed.iter().take(3).collect();
    let calls = failed.len() + answered.load(Relaxed);
    assert!(failed.is_empty(), "{} of {calls} calls failed: {first:#?}", failed.len());
}

/// Waits until the breakers of all endpoints are closed.
async fn closed(caller: &Caller) {
    timeout(PATIENCE, async {
        loop {
            let row = caller.dependency().await;
            let endpoints = row["endpoints"].as_array().cloned().unwrap_or_default();
            if endpoints.iter().all(|endpoint| endpoint["breaker"]["state"] == "closed") {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the breakers close");
}

/// Stops two instances in turns, so often, with this delay before they drain.
async fn nothing_is_lost(drain: &str) {
    let mut services = [instance("127.0.0.1:0", drain).await, instance("127.0.0.1:0", drain).await];
    let addresses = services.each_ref().map(|service| service.http.to_string());
    let caller = Caller::of(&format!("static://{}", addresses.join(","))).await;
    let answered = Arc::default();
    let stopping = async {
        for stop in 0..stops() {
            let (service, address) = (&mut services[stop % 2], &addresses[stop % 2]);
            assert_eq!(service.terminate().await, 0, "it ends in order");
            *service = instance(address, drain).await;
            closed(&caller).await;
            more(&answered, BETWEEN).await;
        }
    };
    none(&calls_until(&caller, &answered, stopping).await, &answered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_at_once_loses_no_call() {
    nothing_is_lost("0s").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_with_a_delay_loses_no_call() {
    nothing_is_lost("1s").await;
}

/// gRPC's own server, with a setting that its operators use to spread load.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_end_by_age_lose_no_call() {
    let mut server = python::server("aged.py").arg("50").stdout(Stdio::piped()).spawn().expect("Python");
    let mut lines = BufReader::new(server.stdout.take().expect("piped")).lines();
    let port = timeout(PATIENCE, lines.next_line()).await.expect("it starts").expect("a line");
    let port = port.expect("no grpcio in this Python; run `cargo xtask test`");
    let caller = Caller::of(&format!("static://127.0.0.1:{port}")).await;
    // Connections have ended many times by then.
    let answered = Arc::default();
    none(&calls_until(&caller, &answered, more(&answered, 5_000)).await, &answered);
}
