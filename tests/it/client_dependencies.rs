//! Dependency truth: what operators and the health registry are told of the destinations of calls out.

use chassis::{
    Chassis,
    client::{CallErrorKind, Client},
    testing::TestService,
};
use http::{Method, Request};
use serde_json::{Value, json};

use crate::support::{raw::PATIENCE, scrape::sum};

struct Inventory;

#[chassis::service]
impl Inventory {
    #[get("/stock")]
    async fn stock(&self) -> chassis::service::NoContent {
        chassis::service::NoContent
    }
}

/// A service, and its clients by these names.
struct Front {
    service: TestService,
    clients: Vec<Client>,
}

impl Front {
    async fn start(names: &[&str], settings: &[(&str, &str)]) -> Self {
        let mut builder = TestService::builder();
        for (key, value) in settings {
            builder = builder.set(&format!("clients.{key}"), value);
        }
        let (send, receive) = std::sync::mpsc::sync_channel(1);
        let start = |chassis: Chassis| {
            let clients: Vec<_> = names.iter().map(|name| chassis.client(name).unwrap()).collect();
            send.send(clients).unwrap();
            chassis
        };
        let service = builder.start(start).await.unwrap();
        Self { service, clients: receive.recv().unwrap() }
    }

    async fn call(&self, client: usize) -> Result<(), chassis::client::CallError> {
        self.clients[client].call(Method::GET, "/stock").answer().await
    }

    async fn dependencies(&self) -> Value {
        let answer = self.service.operator("/admin/dependencies").await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    async fn check(&self, name: &str) -> Value {
        self.service.operator("/health").await.unwrap().json()["checks"][name].clone()
    }

    /// Waits for the check to have this status; it is told by events, so that no time has to pass.
    async fn until(&self, name: &str, status: &str) -> Value {
        tokio::time::timeout(PATIENCE, async {
            loop {
                let check = self.check(name).await;
                if check["status"] == status {
                    return check;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{name} is not {status}"))
    }

    async fn put(&self, path: &str, body: &Value) -> (u16, Value) {
        let uri = format!("http://{}{path}", self.service.admin());
        let request = Request::put(uri).body(body.to_string()).unwrap();
        let answer = self.service.send(request).await.unwrap();
        (answer.status.as_u16(), answer.json())
    }
}

async fn inventory() -> TestService {
    TestService::start(|chassis: Chassis| chassis.mount(Inventory)).await.unwrap()
}

#[tokio::test]
async fn the_worst_destination_comes_first_with_its_last_error() {
    let (good, gone) = (inventory().await, inventory().await);
    let (here, there) = (format!("http://{}", good.http()), format!("http://{}", gone.http()));
    gone.stop().await.unwrap();
    let settings = [
        ("a-good.target", here.as_str()),
        ("b-gone.target", &there),
        // Long enough for the test to see it open.
        ("b-gone.breaker.open_wait", "60s"),
        ("b-gone.breaker.max_open_wait", "60s"),
        ("c-new.target", &here),
    ];
    let front = Front::start(&["a-good", "b-gone", "c-new"], &settings).await;
    front.call(0).await.unwrap();
    while front.call(1).await.unwrap_err().kind() == CallErrorKind::NotSent {
        let listed = front.dependencies().await;
        if listed[0]["status"] == "down" {
            break;
        }
    }
    let listed = front.dependencies().await;
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|row| (&row["name"], &row["status"])).collect();
    let expected =
        [("b-gone", "down"), ("c-new", "unknown"), ("a-good", "up")].map(|(name, status)| (json!(name), json!(status)));
    assert_eq!(names, expected.iter().map(|(name, status)| (name, status)).collect::<Vec<_>>(), "{listed:#}");

    let endpoint = &listed[0]["endpoints"][0];
    assert_eq!((&listed[0]["target"], &listed[0]["discovery"]["state"]), (&json!(there), &json!("fresh")));
    assert_eq!(endpoint["address"], there.trim_start_matches("http://"));
    assert_eq!((&endpoint["breaker"]["state"], &endpoint["breaker"]["unreachable"]), (&json!("open"), &json!(true)));
    assert_eq!(endpoint["breaker"]["trip_reason"], "failure_rate");
    assert!(endpoint["last_error"]["message"].as_str().unwrap().contains("refused"), "{endpoint:#}");
    assert_eq!(endpoint["last_error"]["trace_id"].as_str().unwrap().len(), 32);
    assert_eq!(listed[2]["endpoints"][0]["attempts"]["success"], 1);
}

#[tokio::test]
async fn a_destination_that_is_down_degrades_the_instance_and_one_that_is_needed_makes_it_not_ready() {
    for (critical, ready) in [("false", 200), ("true", 503)] {
        let gone = inventory().await;
        let target = format!("http://{}", gone.http());
        let settings = [
            ("inventory.target", target.as_str()),
            ("inventory.critical", critical),
            // Long enough for the test to see it open.
            ("inventory.breaker.open_wait", "60s"),
            ("inventory.breaker.max_open_wait", "60s"),
        ];
        let front = Front::start(&["inventory"], &settings).await;
        front.call(0).await.unwrap();
        assert_eq!(front.service.get("/readyz").await.unwrap().status, 200);
        gone.stop().await.unwrap();
        for _ in 0..10 {
            front.call(0).await.unwrap_err();
        }
        let check = front.until("client:inventory", "down").await;
        assert!(check["message"].as_str().unwrap().contains("1 of 1 endpoints held back"), "{check}");
        assert_eq!(front.service.get("/readyz").await.unwrap().status, ready);
        assert_eq!(front.service.get("/livez").await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn an_operator_forces_a_breaker_open_and_gives_it_back() {
    let good = inventory().await;
    let target = format!("http://{}", good.http());
    let front = Front::start(&["inventory"], &[("inventory.target", &target)]).await;
    front.call(0).await.unwrap();
    let path = "/admin/dependencies/inventory/breaker";

    let (status, row) = front.put(path, &json!({ "mode": "forced_open" })).await;
    assert_eq!((status, &row["status"]), (200, &json!("down")), "{row:#}");
    let error = front.call(0).await.unwrap_err();
    assert!(
        error.never_sent() && error.to_string().ends_with("circuit_open: none of 1 endpoints is available"),
        "{error}"
    );
    front.until("client:inventory", "down").await;

    let (status, row) = front.put(path, &json!({ "mode": null })).await;
    assert_eq!((status, &row["status"]), (200, &json!("up")), "{row:#}");
    front.call(0).await.unwrap();
    front.until("client:inventory", "up").await;

    for (path, body, status) in [
        (path, json!({}), 400),
        (path, json!({ "mode": "open" }), 400),
        (path, json!({ "mode": null, "endpoint": "nobody" }), 404),
        ("/admin/dependencies/nobody/breaker", json!({ "mode": null }), 404),
    ] {
        assert_eq!(front.put(path, &body).await.0, status, "{path} {body}");
    }
}

#[tokio::test]
async fn a_forced_breaker_shows_when_it_ends() {
    let good = inventory().await;
    let target = format!("http://{}", good.http());
    let front = Front::start(&["inventory"], &[("inventory.target", &target)]).await;
    front.call(0).await.unwrap();
    let path = "/admin/dependencies/inventory/breaker";
    let of_all = ["destination=\"inventory\""];
    for (body, seconds) in [
        (json!({ "mode": "forced_open" }), 600),
        (json!({ "mode": "disabled", "ttl": "30m" }), 1800),
        (json!({ "mode": "metrics_only", "ttl": "2h" }), 7200),
    ] {
        let (status, row) = front.put(path, &body).await;
        assert_eq!(status, 200, "{row:#}");
        let forced = &row["forced"][0];
        assert_eq!((&forced["mode"], &forced["endpoint"]), (&body["mode"], &Value::Null));
        let left = forced["remaining_seconds"].as_u64().unwrap();
        assert!(left <= seconds && left + 60 > seconds, "{forced}");
        assert!(forced["until"].as_str().unwrap().ends_with('Z'), "{forced}");
        let shown = sum(&front.service.metrics().await.unwrap(), "chassis_client_breaker_forced_seconds", &of_all);
        assert!(shown <= seconds as f64 && shown + 60.0 > seconds as f64, "{shown}");
    }
    for (body, text) in [
        (json!({ "mode": "forced_open", "ttl": "3h" }), "at most 2h"),
        (json!({ "mode": "forced_open", "ttl": "0s" }), "more than 0"),
        (json!({ "mode": null, "ttl": "1m" }), "beside the mode null"),
    ] {
        let (status, problem) = front.put(path, &body).await;
        assert_eq!(status, 400, "{body}");
        assert!(problem["detail"].as_str().unwrap().contains(text), "{problem}");
    }
    let (_, row) = front.put(path, &json!({ "mode": null })).await;
    assert_eq!(row["forced"], json!([]));
    let said = |line: &Value| line["message"] == "breakers set by an operator" && line["ttl_seconds"] == 7200.0;
    assert!(chassis::testing::log_lines().iter().any(said));
}

#[tokio::test]
async fn one_dependency_is_read_by_its_name() {
    let good = inventory().await;
    let target = format!("http://{}", good.http());
    let front = Front::start(&["inventory"], &[("inventory.target", &target)]).await;
    let row = front.service.operator("/admin/dependencies/inventory").await.unwrap();
    assert_eq!(row.status, 200);
    assert_eq!(row.json(), front.dependencies().await[0]);
    let missing = front.service.operator("/admin/dependencies/nobody").await.unwrap();
    assert_eq!(missing.status, 404);
    assert!(missing.json()["detail"].as_str().unwrap().contains("inventory"), "{}", missing.text());
}

#[tokio::test]
async fn a_client_without_a_section_is_refused_with_those_that_are_known() {
    let (send, receive) = std::sync::mpsc::sync_channel(1);
    let builder = TestService::builder().set("clients.inventory.target", "http://inventory");
    let start = |chassis: Chassis| {
        send.send(chassis.client("inventori").unwrap_err().to_string()).unwrap();
        chassis
    };
    let _service = builder.start(start).await.unwrap();
    let error = receive.recv().unwrap();
    assert!(error.contains("known are inventory") && error.contains("[clients.inventori]"), "{error}");
}

#[tokio::test]
async fn settings_that_contradict_each_other_are_refused_all_at_once() {
    let builder = TestService::builder()
        .set("clients.inventory.target", "ftp://inventory")
        .set("clients.inventory.attempt_timeout", "1m")
        .set("clients.orders.idempotent", "[\"Place\"]");
    let refusal = builder.start(|chassis: Chassis| chassis).await.unwrap_err();
    let text = refusal.to_string();
    for key in [
        "clients.inventory.target",
        "clients.inventory.attempt_timeout",
        "clients.orders.target",
        "clients.orders.idempotent",
    ] {
        assert!(text.contains(key), "{key}: {text}");
    }
    assert_eq!(refusal.exit().code(), 78);
}

#[tokio::test]
async fn services_of_one_process_find_each_other_by_name() {
    let registered = TestService::builder()
        .set("discovery.register", "memory")
        .set("service.name", "found-by-name")
        .start(|chassis: Chassis| chassis.mount(Inventory))
        .await
        .unwrap();
    let front = Front::start(&["found"], &[("found.target", "memory://found-by-name")]).await;
    front.call(0).await.unwrap();
    registered.stop().await.unwrap();
    let error = front.call(0).await.unwrap_err();
    assert!(error.never_sent() && error.to_string().contains("no_endpoints: "), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_registers_in_its_process_is_found_there_as_soon_as_it_serves() {
    // Whoever loses a race loses it sometimes.
    for round in 0..20 {
        let name = format!("registered-first-{round}");
        let (send, receive) = std::sync::mpsc::sync_channel(1);
        let service = TestService::builder()
            .set("discovery.register", "memory")
            .set("service.name", &name)
            .set("clients.itself.target", format!("memory://{name}"))
            .set("clients.itself.retry.attempts", 1)
            .start(|chassis: Chassis| {
                send.send(chassis.client("itself").unwrap()).unwrap();
                chassis.mount(Inventory)
            })
            .await
            .unwrap();
        let health = service.operator("/health").await.unwrap().json();
        assert_eq!(health["checks"]["registration"]["status"], "up", "{health}");
        let itself: Client = receive.recv().unwrap();
        itself
            .call(Method::GET, "/stock")
            .answer::<()>()
            .await
            .unwrap_or_else(|error| panic!("round {round}: {error}"));
        service.stop().await.unwrap();
    }
}
