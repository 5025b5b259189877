//! A real Consul that asks back, lets nobody in, speaks TLS, or freezes: what the registration makes of it.

use std::{fs, path::PathBuf, time::Duration};

use chassis::{
    Chassis,
    health::{Criticality, Reporter},
    settings::NoSettings,
    testing::{TestService, log_lines},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::{
    consul_registration::{HEALTH, own, registering, start},
    support::{
        consul::{Agent, PATIENCE},
        echo::Echo,
        process::Quickstart,
        telemetry::{eventually, sample},
        witness::Witness,
    },
};

/// Waits until the registration's check is so; its message.
async fn check(service: &TestService, status: &str) -> String {
    eventually(&format!("registration {status}"), async || {
        let check = service.operator("/health").await.unwrap().json()["checks"]["registration"].clone();
        (check["status"] == status).then(|| check["message"].as_str().unwrap_or_default().to_owned())
    })
    .await
}

fn passing(entries: &Value) -> bool {
    own(entries, "Status") == "passing"
}

fn critical(entries: &Value) -> bool {
    own(entries, "Status") == "critical"
}

#[tokio::test]
async fn an_agent_that_asks_over_http_or_grpc_is_answered_with_the_readiness() {
    let agent = Agent::start().await;
    for kind in ["http", "grpc"] {
        let builder = registering(&agent, "20s").set("service.name", format!("asked-{kind}"));
        let builder = builder.set("consul.check.kind", kind).set("consul.check.interval", "1s");
        let mut store: Option<Reporter> = None;
        let make = |chassis: Chassis<NoSettings>| {
            store = Some(chassis.health().reporter("store", Criticality::Critical));
            chassis.grpc(Echo(Witness::new()))
        };
        let service = builder.start(make).await.unwrap();
        let store = store.unwrap();
        let entries = format!("/v1/health/service/asked-{kind}");
        store.up();
        agent.eventually(&entries, passing).await;
        store.down("refused");
        agent.eventually(&entries, critical).await;
        check(&service, "up").await;
        service.stop().await.unwrap();
        assert_eq!(agent.get(&entries).await, json!([]), "{kind}: it took its entry out");
    }
}

#[tokio::test]
async fn a_token_lets_the_registration_in_and_without_one_the_refusal_is_told() {
    let agent = Agent::start_closed("a3f1c2d4-0000-4000-8000-0123456789ab").await;
    let token = agent.token_for("own", "service \"service-under-test\" { policy = \"write\" }").await;

    let (service, store) = start(registering(&agent, "3s")).await;
    store.up();
    let message = check(&service, "degraded").await;
    let message = if message.contains("403") { message } else { check_says(&service, "403").await };
    assert!(message.contains("Permission denied"), "{message}");
    let registered = sample(&service.metrics().await.unwrap(), "chassis_registration_registered", &[]);
    assert_eq!(registered, Some(0.0));
    assert_eq!(agent.get(HEALTH).await, json!([]));
    let told =
        |line: &Value| line["message"] == "not registered" && line["reason"].to_string().contains("Permission denied");
    assert!(log_lines().iter().any(told));
    service.stop().await.unwrap();

    let (service, store) = start(registering(&agent, "3s").set("consul.token", &token)).await;
    store.up();
    agent.eventually(HEALTH, passing).await;
    check(&service, "up").await;
    let config = service.operator("/admin/config").await.unwrap().text();
    assert!(!config.contains(&token), "{config}");
    service.stop().await.unwrap();
    assert_eq!(agent.get(HEALTH).await, json!([]), "it took its entry out");
}

/// Waits until the registration's check says this.
async fn check_says(service: &TestService, text: &str) -> String {
    let mut last = String::new();
    let said = timeout(PATIENCE, async {
        while !last.contains(text) {
            let check = service.operator("/health").await.unwrap().json()["checks"]["registration"].clone();
            last = check["message"].as_str().unwrap_or_default().to_owned();
            sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(said.await.is_ok(), "{text:?} is not said: {last}");
    last
}

/// A private authority; the paths of what it gave out.
struct Authority {
    folder: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("consul_security");
        fs::create_dir_all(&folder).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "private");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { folder, issuer }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn ca(&self) -> String {
        self.file("ca.pem", &self.issuer.pem())
    }

    fn identity(&self, host: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        (self.file(&format!("{host}.pem"), &cert.pem()), self.file(&format!("{host}.key"), &key.serialize_pem()))
    }
}

#[tokio::test]
async fn an_agent_with_a_private_authority_gets_the_entry_over_tls_from_who_shows_a_certificate() {
    const SERVER: &str = "server.dc1.consul";
    let authority = Authority::new();
    let (ca, (cert, key)) = (authority.ca(), authority.identity(SERVER));
    let ports = json!({ "dns": -1, "http": 8500, "https": 8501 });
    let config = json!({
        "ports": ports, "verify_incoming_https": true, "ca_file": ca, "cert_file": cert, "key_file": key,
    });
    let agent = Agent::start_with(config).await;
    let builder = || {
        let builder = registering(&agent, "3s").set("consul.address", agent.secure_address());
        builder.env("CONSUL_CACERT", &ca).env("CONSUL_TLS_SERVER_NAME", SERVER)
    };

    let (service, _store) = start(builder()).await;
    let message = check_says(&service, "consul.tls.cert").await;
    assert!(message.contains(&agent.secure_address()), "{message}");
    assert_eq!(agent.get(HEALTH).await, json!([]));
    service.stop().await.unwrap();

    let (cert, key) = authority.identity("orders.internal");
    let (service, store) = start(builder().env("CONSUL_CLIENT_CERT", cert).env("CONSUL_CLIENT_KEY", key)).await;
    store.up();
    agent.eventually(HEALTH, passing).await;
    check(&service, "up").await;
    service.stop().await.unwrap();
    assert_eq!(agent.get(HEALTH).await, json!([]), "it took its entry out");
}

#[tokio::test]
async fn a_frozen_agent_is_told_of_and_the_entry_is_taken_out_when_it_thaws_while_the_instance_drains() {
    let agent = Agent::start().await;
    let builder = registering(&agent, "1s").set("shutdown.drain_delay", "20s").set("shutdown.orchestrator_grace", "2m");
    let (service, store) = start(builder).await;
    store.up();
    agent.eventually(HEALTH, passing).await;
    check(&service, "up").await;

    agent.freeze();
    let message = check(&service, "degraded").await;
    assert!(message.contains("no answer within 333ms"), "{message}");
    agent.thaw();
    check(&service, "up").await;
    agent.eventually(HEALTH, passing).await;

    agent.freeze();
    let handle = service.handle().clone();
    handle.stop(false);
    let stopping = tokio::spawn(service.ended());
    let trying = "the registry has not let this instance go in time: trying on while it drains";
    eventually("a way out that takes long", async || {
        log_lines().iter().any(|line| line["message"] == trying).then_some(())
    })
    .await;
    agent.thaw();
    agent.eventually(HEALTH, |entries| *entries == json!([])).await;
    assert!(!stopping.is_finished(), "in the drain, and not after it");
    // Who is waited for by nobody may go at once.
    handle.stop(true);
    stopping.await.unwrap().unwrap();
}

#[tokio::test]
async fn mistakes_in_the_agents_settings_are_told_at_once_by_the_check_of_the_configuration() {
    let service = Quickstart::fixture().arguments(&["config", "check"]);
    let service = service.set("discovery.register", "consul").set("discovery.host", "0.0.0.0");
    let service = service.set("consul.tls.ca", "no-such-file.pem").set("discovery.metadata", "{ zone = \"a\" }");
    let service = service.env("CONSUL_HTTP_ADDR", "https://consul:8501").env("CONSUL_HTTP_TOKEN", "two\nlines");
    let ended = service.run().await;
    assert_eq!(ended.code, Some(78), "{}{}", ended.stdout, ended.stderr);
    for key in ["consul.tls.ca", "consul.token", "discovery.host", "discovery.metadata.zone"] {
        assert!(ended.stderr.contains(&format!("{key}: ")), "{key} in {}", ended.stderr);
    }
    let service = Quickstart::fixture().arguments(&["config", "check"]);
    let ended = service.env("CONSUL_HTTP_ADDR", "http://user:hunter2@consul:8500").run().await;
    assert_eq!(ended.code, Some(78), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stderr.contains("consul.address: ") && !ended.stderr.contains("hunter2"), "{}", ended.stderr);
}
