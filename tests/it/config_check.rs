//! `config check` refuses what the start refuses, as far as it can be seen without the network.

use std::{collections::BTreeMap, path::Path};

use crate::support::process::{Ended, Quickstart};

/// Where the start may refuse the configuration (exit code 78), and how `config check` comes to refuse the same: by a case of
/// the table below, or why it cannot.
const SITES: [(&str, &str); 23] = [
    ("chassis/clients.rs", "targets are checked; which clients the code asks for is known when it runs"),
    ("chassis/hosts.rs", "the code asks for it; the section itself is checked"),
    ("chassis/lead.rs", "the code asks for it"),
    ("chassis/mod.rs", "Chassis::new alone; the section app is checked"),
    ("chassis/mount.rs", "about routes"),
    ("chassis/reload.rs", "it is the check"),
    ("chassis/remote.rs", "it is the check"),
    ("chassis/serve.rs", "announced hosts are checked; the rest is about routes"),
    ("client/mod.rs", "addresses in code; names of clients are checked"),
    ("coherence.rs", "about routes; the settings' part of the stop is checked"),
    ("config/error.rs", "it is the check"),
    ("consul/client.rs", "checked"),
    ("discovery/dns/mod.rs", "checked"),
    ("error.rs", "the constructor"),
    ("server/handed.rs", "sockets of the process"),
    ("server/listener.rs", "addresses are checked; the rest is the network"),
    ("telemetry/audit.rs", "checked, but for a file that only the service's user may write"),
    ("telemetry/log/mod.rs", "checked"),
    ("telemetry/metrics/mod.rs", "checked"),
    ("telemetry/mod.rs", "checked"),
    ("tls/none.rs", "checked"),
    ("tls/secure.rs", "checked"),
    ("consul/kv.rs", "settings that make no client; checked"),
];

/// Settings that no start accepts, and a part of what is said of them.
const WRONG: &[(&[&str], &str)] = &[
    (&["http.address=8080"], "http.address: found \"8080\", expected host:port"),
    (&["http.address=:8080"], "write \"0.0.0.0:8080\" for all addresses"),
    (&["http.address=*:8080"], "http.address: found \"*:8080\""),
    (&["http.address=127.0.0.1:99999"], "a port is a number from 0 to 65535"),
    (&["http.address=http://127.0.0.1:8080"], "an address without a scheme"),
    (&["http.address="], "http.address: found \"\""),
    (&["http.address=unix:"], "the path names no file"),
    (&["http.address=::1:8080"], "stands in brackets"),
    (&["admin.address=8081"], "admin.address: found \"8081\""),
    (
        &["http.address=127.0.0.1:8080", "admin.address=127.0.0.1:8080"],
        "admin.address: found \"127.0.0.1:8080\", where",
    ),
    (&["http.address=0.0.0.0:8080", "admin.address=127.0.0.1:8080"], "where http.address = \"0.0.0.0:8080\" listens"),
    (
        &["telemetry.metrics.buckets={ \"http.server.request.duration\" = [1.0, 0.5] }"],
        "each larger than the one before",
    ),
    (
        &["telemetry.metrics.buckets={ \"http.server.request.duration\" = [1.0, 1.0] }"],
        "each larger than the one before",
    ),
    (&["telemetry.metrics.buckets={ \"http.server.request.duration\" = [nan] }"], "expected a number"),
    (
        &["telemetry.metrics.buckets={ \"http.server.request.duraton\" = [1.0] }"],
        "did you mean http.server.request.duration?",
    ),
    (&["telemetry.propagators=smoke"], "telemetry.propagators"),
    (&["admin.token={ file = \"empty\" }"], "admin.token: the file empty is empty"),
    (&["admin.token={ file = \"blank\" }"], "admin.token: found a text with blanks or newlines around it"),
    (&["admin.token={ file = \"none\" }"], "admin.token: cannot read the file none"),
    (&["log.filter=infoo"], "log.filter"),
    (&["log.audit.file=no/such/folder/audit.log"], "log.audit.file: found no/such/folder/audit.log"),
    (&["clients.stock.timeout=5s"], "clients.stock.target: not set"),
    (&["clients.stock.target=stock:8080"], "clients.stock.target: "),
    (&["clients.stock.target=dns://10.0.0.1:8080"], "clients.stock.target: "),
    (&["clients.stock.target=https://stock", "clients.stock.tls.ca=none.pem"], "clients.stock.tls."),
    (&["discovery.register=consul", "discovery.host=http://a:80"], "discovery.host: found \"http://a:80\""),
    (&["discovery.register=consul", "discovery.port=0"], "discovery.port: found 0"),
    (&["discovery.register=consul", "discovery.host=a", "consul.address=consul:99999"], "consul.address: found"),
    (
        &["discovery.register=consul", "discovery.host=a", "service.name=my service"],
        "service.name: found \"my service\"",
    ),
    (&["discovery.register=consul", "discovery.host=a", "consul.token={ file = \"blank\" }"], "consul.token"),
    (&["shutdown.orchestrator_grace=1s"], "shutdown.orchestrator_grace: found 1s"),
];

fn with(settings: &[&str]) -> Quickstart {
    let quickstart = settings.iter().fold(Quickstart::new(), |quickstart, pair| quickstart.arguments(&["--set", pair]));
    quickstart.file("empty", "").file("blank", "hunter2\n\n")
}

fn refused(ended: &Ended, what: &str) -> String {
    assert_eq!(ended.code, Some(78), "{what}: {}{}", ended.stdout, ended.stderr);
    ended.stderr.clone()
}

#[tokio::test]
async fn config_check_refuses_what_the_start_refuses() {
    for (settings, part) in WRONG {
        let what = settings.join(" ");
        let check = refused(&with(settings).arguments(&["config", "check"]).run().await, &what);
        assert!(check.contains(part), "{what}: {check}");
        let start = refused(&with(settings).run().await, &what);
        assert_eq!(check, start, "{what}");
        assert!(!check.contains("hunter2"), "{check}");
    }
}

#[tokio::test]
async fn variables_of_telemetry_are_checked_too() {
    let service = || Quickstart::new().env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:99999");
    let check = refused(&service().arguments(&["config", "check"]).run().await, "check");
    assert!(check.contains("OTEL_EXPORTER_OTLP_ENDPOINT: found"), "{check}");
    assert_eq!(check, refused(&service().run().await, "start"));
}

/// A new place that refuses the configuration has to be sorted.
#[test]
fn every_place_that_refuses_the_configuration_is_checked_or_says_why() {
    fn below(folder: &Path, root: &Path, found: &mut BTreeMap<String, usize>) {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            let name = path.strip_prefix(root).expect("below").display().to_string();
            if path.is_dir() {
                below(&path, root, found);
            } else if name.ends_with(".rs") && !name.contains("tests") {
                let text = std::fs::read_to_string(&path).expect("a file");
                let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
                let sites = code.matches("Error::config(").count() + code.matches("Self::config(").count();
                if sites > 0 {
                    found.insert(name, sites);
                }
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../chassis/src");
    let mut found = BTreeMap::new();
    below(&root, &root, &mut found);
    assert!(found.len() > 10, "{found:?}");
    let unsorted: Vec<_> = found.keys().filter(|name| !SITES.iter().any(|(site, _)| site == name)).collect();
    assert!(
        unsorted.is_empty(),
        "{unsorted:?} refuse the configuration at start: move it into the check (chassis/src/coherence/start.rs), or say in SITES \
         why not"
    );
}

#[tokio::test]
async fn what_a_service_is_made_of_is_listed_without_targets() {
    let settings = [
        "clients.inventory.timeout=5s",
        "clients.other.timeout=5s",
        "log.audit.file=no/such/folder/audit.log",
        "discovery.register=consul",
        "consul.tls.ca=none.pem",
    ];
    let storefront = |set: &[&str], command: &[&str]| {
        let start = set.iter().fold(Quickstart::example("storefront"), |start, pair| start.arguments(&["--set", pair]));
        start.arguments(command)
    };
    for command in [&["openapi"][..], &["routes"], &["routes", "--json"], &["layers"]] {
        for set in [&settings[..], &[]] {
            let ended = storefront(set, command).run().await;
            assert_eq!(ended.code, Some(0), "{command:?}: {}", ended.stderr);
            assert!(!ended.stdout.is_empty(), "{command:?}");
        }
    }
    refused(&storefront(&settings, &["config", "check"]).run().await, "check");
    let said = refused(&storefront(&settings[..1], &["config", "check"]).run().await, "check");
    assert!(said.contains("clients.inventory.target: not set"), "{said}");
    let said = refused(&storefront(&[], &[]).run().await, "start");
    assert!(said.contains("clients.inventory: not set"), "{said}");
}

#[tokio::test]
async fn a_misspelt_profile_starts_nothing() {
    for service in [
        Quickstart::new().arguments(&["--profile", "prdo"]),
        Quickstart::new().env("CHASSIS_PROFILE", "prdo"),
        Quickstart::new().arguments(&["config", "check", "--profile", "prdo"]),
        Quickstart::new().arguments(&["openapi", "--profile", "prdo"]),
    ] {
        let said = refused(&service.run().await, "prdo");
        assert!(
            said.contains("found \"prdo\", expected dev, prod") && said.contains("did you mean \"prod\"?"),
            "{said}"
        );
    }
    let staged =
        Quickstart::new().file("config/staging.toml", "").arguments(&["config", "check", "--profile", "staging"]);
    assert_eq!(staged.run().await.code, Some(0));
}

#[tokio::test]
async fn a_pod_beside_a_service_called_chassis_starts() {
    let links = |service: Quickstart| {
        [
            ("CHASSIS_SERVICE_HOST", "10.0.0.1"),
            ("CHASSIS_SERVICE_PORT", "8080"),
            ("CHASSIS_PORT", "tcp://10.0.0.1:8080"),
            ("CHASSIS_PORT_8080_TCP_ADDR", "10.0.0.1"),
            ("CHASSIS_FOO_SERVICE_PORT_HTTP", "80"),
        ]
        .into_iter()
        .fold(service, |service, (name, value)| service.env(name, value))
    };
    let check = links(Quickstart::new()).arguments(&["config", "check"]).run().await;
    assert_eq!((check.code, check.stdout.as_str()), (Some(0), "the configuration is right\n"), "{}", check.stderr);
    assert_eq!(check.stderr.lines().count(), 1, "{}", check.stderr);
    assert!(check.stderr.contains("enableServiceLinks: false"), "{}", check.stderr);

    let mut service = links(Quickstart::new()).start().await;
    assert_eq!(service.get("/livez").await.status, 200);
    assert_eq!(service.terminate().await, 0);
    let noted = service.process.stdout().iter().filter(|line| line.contains("enableServiceLinks")).count();
    assert_eq!(noted, 1);

    let said = refused(&links(Quickstart::new()).env("CHASSIS_HTTP_PORT", "8080").run().await, "a typo");
    assert!(said.contains("CHASSIS_HTTP_PORT: unknown"), "{said}");
}

#[tokio::test]
async fn the_token_of_a_file_opens_the_operators_port() {
    let token = |service: Quickstart| service.file("token", "hunter2\n");
    for service in [
        token(Quickstart::new()).env("CHASSIS_ADMIN__TOKEN_FILE", "token"),
        token(Quickstart::new()).env("CHASSIS_ADMIN__TOKEN", "{ file = \"token\" }"),
        token(Quickstart::new()).env("CHASSIS_ADMIN__TOKEN", "{ env = \"TOKEN\" }").env("TOKEN", "hunter2"),
    ] {
        let mut service = service.start().await;
        let client = |token: &str| {
            format!(
                "GET /admin/config HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
            )
        };
        for (presented, status) in [("hunter2", 200), ("hunter3", 401)] {
            let mut connection = crate::support::http1::Connection::open(service.admin).await.unwrap();
            connection.write(&client(presented)).await.unwrap();
            assert_eq!(connection.answer().await.unwrap().status, status, "{presented}");
        }
        assert_eq!(service.terminate().await, 0);
    }
    let both =
        token(Quickstart::new()).env("CHASSIS_ADMIN__TOKEN_FILE", "token").env("CHASSIS_ADMIN__TOKEN", "hunter2");
    let said = refused(&both.arguments(&["config", "check"]).run().await, "both");
    assert!(
        said.contains("CHASSIS_ADMIN__TOKEN_FILE: found beside CHASSIS_ADMIN__TOKEN") && !said.contains("hunter2"),
        "{said}"
    );
}
