//! This instance's entry in a real Consul, as an independent reader sees it.

use std::time::{Duration, Instant};

use chassis::{
    Chassis,
    consul::{CheckConfig, ConsulRegistrar},
    discovery::{EndpointHealth, Registrar, Registration, Standing},
    health::{Criticality, Reporter},
    settings::NoSettings,
    testing::{TestService, TestServiceBuilder, log_lines},
};
use rustix::process::Signal;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::support::{
    consul::{Agent, Cluster},
    pace::Pace,
    process::Quickstart,
    telemetry::sample,
};

pub(crate) const HEALTH: &str = "/v1/health/service/service-under-test";
/// The worst case between a loss and the new entry: a third of this TTL, and the second in which instances spread.
const TTL: Duration = Duration::from_secs(3);
const BACK: Duration = Duration::from_secs(2);

pub(crate) fn registering(agent: &Agent, ttl: &str) -> TestServiceBuilder {
    let builder = TestService::builder().env("CONSUL_HTTP_ADDR", agent.address());
    builder.set("discovery.register", "consul").set("consul.check.ttl", ttl)
}

/// A service with a critical check that the test reports.
pub(crate) async fn start(builder: TestServiceBuilder) -> (TestService, Reporter) {
    let mut store = None;
    let make = |chassis: Chassis<NoSettings>| {
        let reporter = chassis.health().reporter("store", Criticality::Critical);
        reporter.down("refused");
        store = Some(reporter);
        chassis
    };
    let service = builder.start(make).await.unwrap();
    (service, store.unwrap())
}

/// The status of the service's own check.
pub(crate) fn own<'a>(entries: &'a Value, key: &str) -> &'a str {
    let checks = entries[0]["Checks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let own = checks.iter().find(|check| check["Name"] == "readiness");
    own.and_then(|check| check[key].as_str()).unwrap_or_default()
}

#[tokio::test]
async fn an_independent_reader_sees_the_service_its_readiness_its_metadata_and_its_end() {
    let agent = Agent::start().await;
    // Longer than the test waits: a change that gets through does not come with a renewal.
    let builder = registering(&agent, "30m").set("discovery.zone", "eu-1").set("discovery.weight", 3);
    let builder = builder.set("discovery.tags", "[\"v2\", \"blue\"]").set("discovery.metadata", "{ build = \"17\" }");
    let (service, store) = start(builder).await;

    // Which is not what it begins with in Consul unless it says so: nobody is sent here before it is ready.
    let entries = agent.eventually(HEALTH, |entries| own(entries, "Status") == "critical").await;
    // The servers get a note with a change of state at once, and alone only after some minutes; the agent has it.
    agent.eventually("/v1/agent/checks", |checks| checks.to_string().contains("not ready: store down")).await;
    let seen = &entries[0]["Service"];
    assert_eq!((&seen["Address"], seen["Port"].as_u64()), (&"127.0.0.1".into(), Some(service.http().port().into())));
    assert_eq!(seen["Tags"], serde_json::json!(["v2", "blue"]));
    assert_eq!((&seen["Weights"]["Passing"], &seen["Weights"]["Warning"]), (&3.into(), &3.into()));
    let meta = |key: &str| seen["Meta"][key].as_str().unwrap_or_default();
    assert_eq!((meta("version"), meta("zone"), meta("protocol"), meta("build")), ("1.2.3", "eu-1", "http", "17"));
    let id = seen["ID"].as_str().unwrap_or_default();
    assert!(id.starts_with(&format!("service-under-test-{}-", meta("instance"))), "{id}");
    let warned =
        |line: &Value| line["message"].as_str().is_some_and(|said| said.contains("this machine alone reaches"));
    assert!(log_lines().iter().any(warned), "it listens on loopback, and the agent tells a whole cluster");
    let listed = agent.cli(&["catalog", "services", "-tags"]).await;
    assert!(listed.contains("service-under-test") && listed.contains("blue,v2"), "{listed}");

    // Each change at once: the next renewal is ten minutes away.
    for (status, output) in [("passing", "ready"), ("critical", "not ready: store down"), ("passing", "ready")] {
        if status == "passing" {
            store.up();
        } else {
            store.down("refused");
        }
        let entries = agent.eventually(HEALTH, |entries| own(entries, "Status") == status).await;
        assert_eq!(own(&entries, "Output"), output);
    }
    let passing = agent.get(&format!("{HEALTH}?passing")).await;
    assert_eq!(passing.as_array().map(Vec::len), Some(1), "{passing}");

    service.stop().await.unwrap();
    assert_eq!(agent.get(HEALTH).await, serde_json::json!([]), "it took its entry out");
}

#[tokio::test]
async fn a_consul_that_is_away_at_the_start_or_comes_back_empty_stops_nothing_and_gets_the_entry() {
    let pace = Pace::measure();
    let mut agent = Agent::reserved();
    let (service, store) = start(registering(&agent, &format!("{}s", TTL.as_secs()))).await;
    store.up();
    assert_eq!(service.get("/readyz").await.unwrap().status, 200, "it serves without Consul");
    let registered = async || sample(&service.metrics().await.unwrap(), "chassis_registration_registered", &[]);
    let check = async || service.operator("/health").await.unwrap().json()["checks"]["registration"].clone();
    crate::support::telemetry::eventually("a try", async || {
        let message = check().await["message"].as_str().unwrap_or_default().to_owned();
        message.contains(&agent.address()).then_some(())
    })
    .await;
    assert_eq!((check().await["status"].as_str(), registered().await), (Some("degraded"), Some(0.0)));

    agent.begin().await;
    agent.eventually(HEALTH, |entries| own(entries, "Status") == "passing").await;
    crate::support::telemetry::eventually("registered", async || (registered().await == Some(1.0)).then_some(())).await;
    assert_eq!(check().await["status"], "up");

    // Killed and restarted empty while serving: a third of the TTL, a second of jitter, and what the machine takes.
    agent.kill().await;
    agent.forget();
    agent.begin().await;
    let passing = agent.eventually(HEALTH, |entries| own(entries, "Status") == "passing");
    pace.within("registered again after an empty restart", BACK, passing).await;

    // Taken out by somebody else.
    let id = agent.get(HEALTH).await[0]["Service"]["ID"].as_str().unwrap().to_owned();
    agent.cli(&["services", "deregister", "-id", &id]).await;
    let passing = agent.eventually(HEALTH, |entries| own(entries, "Status") == "passing");
    pace.within("registered again after another took it out", BACK, passing).await;

    let said: Vec<_> = log_lines().into_iter().filter(|line| line["id"] == id.as_str()).collect();
    let losses = said.iter().filter(|line| line["message"] == "not registered").count();
    assert!(losses >= 3, "away, forgotten, taken out: {said:#?}");
    // How often an agent that begins says something else is its own affair.
    let twice =
        said.windows(2).find(|two| (&two[0]["message"], &two[0]["reason"]) == (&two[1]["message"], &two[1]["reason"]));
    assert_eq!(twice, None, "once for each change");
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_stop_takes_the_entry_out_before_the_listener_closes_and_a_kill_leaves_it_critical() {
    const FIXTURE: &str = "/v1/health/service/chassis-tests";
    let agent = Agent::start().await;
    let start = || {
        let fixture = Quickstart::fixture().env("CONSUL_HTTP_ADDR", &agent.address());
        let fixture = fixture.set("discovery.register", "consul").set("consul.check.ttl", "1s");
        fixture.set("shutdown.drain_delay", "1s").set("log.format", "json").start()
    };
    let passing = |entries: &Value| own(entries, "Status") == "passing";
    let mut service = start().await;
    agent.eventually(FIXTURE, passing).await;
    let told = Instant::now();
    service.process.signal(Signal::TERM);
    agent.eventually(FIXTURE, |entries| *entries == serde_json::json!([])).await;
    assert_eq!(service.get("/greeting").await.status, 200, "callers that have not heard of it are served");
    assert_eq!(service.process.exit_code().await, 0);
    assert!(told.elapsed() >= Duration::from_secs(1), "the drain delay comes after it");

    let mut service = start().await;
    let entries = agent.eventually(FIXTURE, passing).await;
    service.process.signal(Signal::KILL);
    service.process.exit_code().await;
    agent.eventually(FIXTURE, |entries| own(entries, "Status") == "critical").await;
    // The agent writes down what it will do: nobody waits the ten minutes here.
    let id = entries[0]["Service"]["ID"].as_str().unwrap();
    assert_eq!(agent.forgets_after(id), Duration::from_secs(600));
}

#[tokio::test]
async fn a_restart_at_one_address_leaves_one_entry() {
    const INVENTORY: &str = "/v1/health/service/inventory";
    let agent = Agent::start().await;
    let start = |address: &str, kind: &str| {
        // Over HTTP and gRPC, so that the agent can ask for either.
        let inventory = Quickstart::example("inventory").env("CONSUL_HTTP_ADDR", &agent.address());
        let inventory = inventory.set("discovery.register", "consul").set("discovery.host", "127.0.0.1");
        let inventory = inventory.set("consul.check.interval", "1s").set("consul.check.kind", kind);
        inventory.set("http.address", address).start()
    };
    // Beside the neighbours.
    let own = |entries: &Value, address: std::net::SocketAddr| -> Vec<String> {
        let entries = entries.as_array().cloned().unwrap_or_default().into_iter().map(|entry| entry["Service"].clone());
        let at = |entry: &Value| entry["Port"] == address.port() && entry["Address"] == "127.0.0.1";
        entries.filter(at).map(|entry| entry["ID"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let mut service = start("127.0.0.1:0", "http").await;
    let address = service.http;
    let mut before = own(&agent.eventually(INVENTORY, |entries| own(entries, address).len() == 1).await, address);
    // What only looks like it: another name, another port, another address. Each stays.
    let neighbours = [
        ("name", "others", address.port(), "127.0.0.1"),
        ("port", "inventory", address.port() ^ 1, "127.0.0.1"),
        ("address", "inventory", address.port(), "127.0.0.2"),
    ];
    for (id, name, port, address) in neighbours {
        let entry = serde_json::json!({ "ID": id, "Name": name, "Port": port, "Address": address });
        agent.put("/v1/agent/service/register", &entry.to_string()).await;
    }
    for kind in ["http", "grpc", "ttl"] {
        service.process.signal(Signal::KILL);
        service.process.exit_code().await;
        service = start(&address.to_string(), kind).await;
        let only_the_new = |entries: &Value| {
            let own = own(entries, address);
            own.len() == 1 && own != before
        };
        let entries = agent.eventually(INVENTORY, only_the_new).await;
        before = own(&entries, address);
    }
    let held = agent.get("/v1/agent/services").await;
    for (id, ..) in neighbours {
        assert!(held[id].is_object(), "{id}: {held}");
    }
    assert_eq!(service.terminate().await, 0);
}

/// Two that live at one address, as behind a proxy of their own.
#[tokio::test]
async fn a_living_neighbour_at_the_address_comes_back() {
    let agent = Agent::start().await;
    let keep = |id: &str| {
        let ttl = chassis::config::Duration::from_secs(3);
        let check = CheckConfig { ttl, ..CheckConfig::default() };
        let registration = Registration {
            service: "shared".to_owned(),
            id: id.to_owned(),
            host: "10.0.0.1".to_owned(),
            port: 80,
            tags: Vec::new(),
            metadata: std::collections::BTreeMap::new(),
            weight: 1,
        };
        let (sender, standing) = watch::channel(Standing { health: EndpointHealth::Passing, note: String::new() });
        let kept = ConsulRegistrar::new(agent.client(), check).keep(registration, standing, CancellationToken::new());
        (AbortOnDropHandle::new(tokio::spawn(kept)), sender)
    };
    let entries = |count: usize| {
        move |found: &Value| {
            let passing = |entry: &&Value| own(&serde_json::json!([entry]), "Status") == "passing";
            found.as_array().is_some_and(|found| found.iter().filter(passing).count() == count)
        }
    };
    let _first = keep("first");
    agent.eventually("/v1/health/service/shared", entries(1)).await;
    let _second = keep("second");
    agent.eventually("/v1/health/service/shared", |found| found.to_string().contains("\"second\"")).await;
    agent.eventually("/v1/health/service/shared", entries(2)).await;
}

#[tokio::test]
async fn a_lost_leader_costs_neither_the_entry_nor_the_watch() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader(0).await.expect("a leader");
    let [here, there] = [(leader + 1) % 3, (leader + 2) % 3];
    let (service, store) = start(registering(&cluster.servers[here], "3s")).await;
    store.up();
    let passing = |entries: &Value| own(entries, "Status") == "passing";
    cluster.servers[there].eventually(HEALTH, passing).await;

    let resolver = crate::consul_watch::resolver(&cluster.servers[there], "service-under-test");
    let mut watch = crate::consul_watch::Watch::new(&resolver);
    watch.until(|now| now.endpoints.len() == 1).await;

    cluster.servers[leader].kill().await;
    // A change during the election gets through as soon as there is a leader.
    store.down("refused");
    cluster.servers[there].eventually(HEALTH, |entries| own(entries, "Status") == "critical").await;
    let seen = watch.until(|now| now.endpoints.iter().any(|e| e.health.as_str() == "critical")).await;
    assert_eq!(seen.endpoints.len(), 1, "never empty in between: {:?}", watch.shortest());
    assert_eq!(watch.shortest(), 1);
    service.stop().await.unwrap();
}
