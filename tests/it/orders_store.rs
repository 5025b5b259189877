//! `examples/orders` keeps what it says it keeps: through restarts, signals, races and a store that goes away.

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use chassis::testing::OtlpReceiver;
use rustix::process::Signal;
use serde_json::json;
use tokio::{sync::watch, task::JoinSet, time::timeout};

use crate::support::{
    http1::Connection,
    orders::{all, ask, new_order, place, send, service, until},
    postgres::Postgres,
    process::{Folder, PATIENCE, Quickstart},
    telemetry::eventually,
};

/// A database of a test's own.
enum Store {
    Sqlite(Folder),
    Postgres(Postgres),
}

impl Store {
    fn both() -> [Self; 2] {
        [Self::Sqlite(Folder::new()), Self::Postgres(Postgres::start())]
    }

    fn url(&self) -> String {
        match self {
            Self::Sqlite(folder) => format!("sqlite:{}?mode=rwc", folder.path().join("orders.db").display()),
            Self::Postgres(server) => server.url(),
        }
    }
}

#[tokio::test]
async fn orders_are_kept_through_a_restart() {
    for store in Store::both() {
        let mut first = service(&store.url()).start().await;
        let order = place(first.http, "k", "ada").await;
        let path = format!("/orders/{}", order["id"].as_str().unwrap());
        let paid = send(first.http, "POST", &format!("{path}/payment"), Some(&json!({"cents": 501}))).await.json();
        assert_eq!(paid["status"], "paid");
        assert_eq!(first.terminate().await, 0);

        let mut second = service(&store.url()).start().await;
        assert_eq!(second.get(&path).await.json(), paid);
        assert_eq!(place(second.http, "k", "ada").await, paid, "the key too");
        assert_eq!(second.terminate().await, 0);
    }
}

#[tokio::test]
async fn an_order_in_memory_is_gone_and_leaves_nothing_behind() {
    let mut service = Quickstart::example("orders").start().await;
    place(service.http, "k", "ada").await;
    assert_eq!(all(service.http).await.len(), 1);
    service.process.says("orders are kept in memory").await;
    assert_eq!(service.terminate().await, 0);
    let left: Vec<_> = std::fs::read_dir(service.process.folder().path()).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_store_in_memory_is_refused_outside_of_the_profile_dev() {
    let ended = Quickstart::example("orders").env("CHASSIS_PROFILE", "prod").run().await;
    assert_eq!(ended.code, Some(78));
    assert!(ended.stderr.contains("app.store.url: found a store in memory in the profile prod"), "{}", ended.stderr);
    let ended = service("mysql://root:hunter2@localhost/orders").run().await;
    assert_eq!(ended.code, Some(78));
    assert!(ended.stderr.contains("app.store.url: found no URL of SQLite or PostgreSQL"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("hunter2"), "a secret: {}", ended.stderr);
}

#[tokio::test]
async fn commands_that_only_print_touch_no_database() {
    let folder = Folder::new();
    let file = folder.path().join("orders.db");
    let ended = service(&format!("sqlite:{}?mode=rwc", file.display())).arguments(&["routes"]).run().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("/orders/{id}/payment"), "{}", ended.stdout);
    assert!(!file.exists());
}

#[tokio::test]
async fn placing_twice_with_one_key_gives_the_same_order() {
    for store in Store::both() {
        let mut service = service(&store.url()).start().await;
        let order = new_order("k", "ada");
        let twice = tokio::join!(
            send(service.http, "POST", "/orders", Some(&order)),
            send(service.http, "POST", "/orders", Some(&order))
        );
        assert_eq!((twice.0.status, twice.1.status), (201, 201), "{twice:?}");
        assert_eq!(twice.0.json(), twice.1.json());
        assert_eq!(twice.0.header("location"), format!("/orders/{}", twice.0.json()["id"].as_str().unwrap()));
        let mut other = order.clone();
        other["items"][0]["count"] = 3.into();
        let refused = send(service.http, "POST", "/orders", Some(&other)).await;
        assert_eq!((refused.status, &refused.json()["code"]), (409, &json!("key_in_use")), "{refused:?}");
        assert_eq!(all(service.http).await.len(), 1);
        assert_eq!(service.terminate().await, 0);
    }
}

#[tokio::test]
async fn of_two_writers_that_race_on_one_order_one_is_told_of_a_conflict() {
    for store in Store::both() {
        let mut service = service(&store.url()).start().await;
        for round in 0..20 {
            let order = place(service.http, &round.to_string(), "ada").await;
            let path = format!("/orders/{}", order["id"].as_str().unwrap());
            let payment = json!({"cents": 501});
            let (payment_path, two) = (format!("{path}/payment"), Some(&payment));
            let (one, other) = tokio::join!(
                send(service.http, "POST", &payment_path, two),
                send(service.http, "POST", &payment_path, two)
            );
            let mut statuses = [one.status, other.status];
            statuses.sort_unstable();
            assert_eq!(statuses, [200, 409], "{one:?} {other:?}");
            let lost = if one.status == 409 { one } else { other }.json();
            assert!(["order_changed", "wrong_order_state"].iter().any(|code| lost["code"] == *code), "{lost}");
            assert_eq!(service.get(&path).await.json()["version"], 2, "one change");
        }
        assert_eq!(service.terminate().await, 0);
    }
}

/// Places orders until nobody listens; gives the ids of those that were answered with 201.
async fn place_until_refused(
    address: SocketAddr,
    next: Arc<AtomicU32>,
    placed: watch::Sender<u32>,
) -> BTreeSet<String> {
    let mut answered = BTreeSet::new();
    'connections: loop {
        let mut connection = match Connection::open(address).await {
            Ok(connection) => connection,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return answered,
            Err(_) => continue,
        };
        loop {
            let key = next.fetch_add(1, Ordering::Relaxed).to_string();
            let Ok(answer) = ask(&mut connection, "POST", "/orders", Some(&new_order(&key, "ada"))).await else {
                continue 'connections;
            };
            assert_eq!(answer.status, 201, "{answer:?}");
            answered.insert(answer.json()["id"].as_str().unwrap().to_owned());
            placed.send_modify(|placed| *placed += 1);
            if answer.closes() {
                continue 'connections;
            }
        }
    }
}

#[tokio::test]
async fn an_order_that_was_answered_is_kept_whatever_ends_the_process() {
    for store in Store::both() {
        let mut kept_before = 0;
        for (signal, code) in [(Signal::TERM, 0), (Signal::KILL, 128 + 9)] {
            let mut running = service(&store.url()).set("shutdown.drain_delay", "100ms").start().await;
            let (next, placed) = (Arc::new(AtomicU32::new(1_000 * (1 + u32::from(code != 0)))), watch::Sender::new(0));
            let mut enough = placed.subscribe();
            let mut callers = JoinSet::new();
            for _ in 0..4 {
                callers.spawn(place_until_refused(running.http, next.clone(), placed.clone()));
            }
            let reached = timeout(PATIENCE, enough.wait_for(|placed| *placed >= 40)).await;
            drop(reached.expect("orders are placed").unwrap());
            running.process.signal(signal);
            let ended = running.process.exit_code().await;
            assert_eq!(ended, code);
            let answered: BTreeSet<String> =
                timeout(PATIENCE, callers.join_all()).await.expect("the callers end").into_iter().flatten().collect();
            assert!(answered.len() >= 40);

            let mut again = service(&store.url()).start().await;
            let kept = all(again.http).await;
            let ids: BTreeSet<String> = kept.iter().map(|order| order["id"].as_str().unwrap().to_owned()).collect();
            assert_eq!(ids.len(), kept.len(), "no order twice");
            let lost: Vec<_> = answered.difference(&ids).collect();
            assert!(lost.is_empty(), "{} of {} answered orders are lost: {lost:?}", lost.len(), answered.len());
            assert!(kept.iter().all(|order| order["items"].as_array().unwrap().len() == 2), "no order in part");
            // At most one for each caller was kept and not answered; after SIGTERM, none.
            let unanswered = ids.len() - kept_before - answered.len();
            assert!(unanswered <= if code == 0 { 0 } else { 4 }, "{unanswered} were kept and not answered");
            kept_before = ids.len();
            assert_eq!(again.terminate().await, 0);
        }
    }
}

#[tokio::test]
async fn a_store_that_goes_away_makes_the_service_unready_and_tells_callers_nothing_of_the_inside() {
    let server = Postgres::start();
    let mut service = service(&server.url())
        .set("health.interval", "100ms")
        .set("health.failures_to_fall", "1")
        .set("health.successes_to_rise", "1")
        .start()
        .await;
    let order = place(service.http, "k", "ada").await;
    let path = format!("/orders/{}", order["id"].as_str().unwrap());

    server.stop();
    let unready = until(service.http, "/readyz?verbose", 503).await;
    assert!(unready.body.contains("[-] store: down"), "{}", unready.body);
    assert_eq!(service.get("/livez").await.status, 200, "a restart would not help");
    for (method, path, body) in
        [("GET", path.as_str(), None), ("GET", "/orders", None), ("POST", "/orders", Some(new_order("l", "ada")))]
    {
        let refused = send(service.http, method, path, body.as_ref()).await;
        assert_eq!(refused.status, 503, "{refused:?}");
        assert_eq!(refused.header("retry-after"), "1");
        let problem = refused.json();
        assert_eq!(problem["code"], "store_unavailable");
        let mut members: Vec<_> = problem.as_object().unwrap().keys().map(String::as_str).collect();
        members.retain(|member| {
            !["type", "title", "status", "instance", "code", "trace_id", "retry_after"].contains(member)
        });
        members.retain(|member| *member != "retry_safe");
        assert!(members.is_empty(), "nothing of the inside: {problem}");
        // But the log says it, under the id that the caller was given.
        let line = service.process.says(problem["trace_id"].as_str().unwrap()).await;
        assert!(!line.is_empty());
    }
    let seen = service.operator("/health").await.json();
    assert_eq!(seen["checks"]["store"]["status"], "down", "{seen}");

    server.begin();
    until(service.http, "/readyz", 200).await;
    assert_eq!(service.get(&path).await.json(), order);
    assert_eq!(service.terminate().await, 0);
}

#[tokio::test]
async fn the_service_starts_before_its_store_and_gets_ready_when_it_comes() {
    let server = Postgres::start();
    server.stop();
    let starting = service(&server.url()).set("health.interval", "100ms").set("health.successes_to_rise", "1");
    let mut process = starting.spawn();
    process.says("background task ended").await;
    server.begin();
    process.says("\"message\":\"ready\"").await;
    process.signal(Signal::TERM);
    assert_eq!(process.exit_code().await, 0);
}

#[tokio::test]
async fn the_pool_is_in_the_metrics_and_statements_are_spans_of_their_request() {
    let receiver = OtlpReceiver::start().await.unwrap();
    let folder = Folder::new();
    let url = format!("sqlite:{}?mode=rwc", folder.path().join("orders.db").display());
    let mut service = service(&url)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.grpc_endpoint())
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        .set("app.store.connections", "3")
        .start()
        .await;
    let order = place(service.http, "k", "ada").await;
    assert_eq!(service.get(&format!("/orders/{}", order["id"].as_str().unwrap())).await.status, 200);

    // A connection goes back a moment after its answer.
    let metrics = eventually("all connections are idle", async || {
        let metrics = service.operator("/metrics").await.body;
        metrics.contains("db_client_connection_state=\"used\"} 0").then_some(metrics)
    })
    .await;
    // `db.client.connection.count`: the page takes `_count` off a gauge, for it is a histogram's.
    assert!(!metrics.contains("db_client_connection_count"), "{metrics}");
    for sample in [
        "# TYPE db_client_connections gauge",
        "db_client_connection_max{db_client_connection_pool_name=\"sqlite\"} 3",
        "db_client_connection_pending_requests{db_client_connection_pool_name=\"sqlite\"} 0",
        "db_client_connections{db_client_connection_pool_name=\"sqlite\",db_client_connection_state=\"idle\"} ",
        "db_client_connection_wait_time_seconds_count{db_client_connection_pool_name=\"sqlite\"} ",
    ] {
        assert!(metrics.contains(sample), "{sample} in {metrics}");
    }
    assert_eq!(service.terminate().await, 0);
    let spans = receiver.spans();
    for (statement, route) in [("INSERT orders", "POST /orders"), ("SELECT orders", "GET /orders/{id}")] {
        let request = spans.iter().find(|span| span.name == route).unwrap_or_else(|| panic!("{route} in {spans:?}"));
        let made = spans.iter().find(|span| span.name == statement && span.trace_id == request.trace_id);
        let made = made.unwrap_or_else(|| panic!("{statement} in {spans:?}"));
        assert_eq!(made.parent_span_id, Some(request.span_id));
    }
}
