//! The command line of a service binary.

use std::{
    io::Read,
    net::TcpListener,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::support::process::{self, Ended, Quickstart};

async fn run(arguments: &[&str]) -> Ended {
    Quickstart::bare().arguments(arguments).run().await
}

/// Standard output of a command that ends well.
async fn print(arguments: &[&str]) -> String {
    let ended = run(arguments).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    ended.stdout
}

#[tokio::test]
async fn the_version_is_that_of_the_service_not_the_chassis() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut metadata = Command::new(env!("CARGO"));
    metadata.args(["metadata", "--no-deps", "--format-version", "1", "--offline"]).current_dir(root);
    let metadata: Value = serde_json::from_slice(&metadata.output().unwrap().stdout).unwrap();
    let mut packages = metadata["packages"].as_array().unwrap().iter();
    let quickstart = packages.find(|package| package["name"] == "quickstart").unwrap();

    let json: Value = serde_json::from_str(&print(&["version", "--json"]).await).unwrap();
    assert_eq!((&json["name"], &json["version"]), (&"quickstart".into(), &quickstart["version"]));
    let [version, commit, built] = ["version", "git_commit", "built_at"].map(|key| json[key].as_str().unwrap());
    assert_eq!(print(&["version"]).await, format!("quickstart {version} (commit {commit}, built {built})\n"));
    assert_eq!(print(&["--version"]).await, format!("quickstart {version}\n"));
}

/// Asked of the tests' own service, which cargo builds anew for this test when the head has moved.
#[tokio::test]
async fn the_commit_is_the_head_of_the_services_repository() {
    let head =
        Command::new("git").args(["rev-parse", "HEAD"]).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let head = String::from_utf8(head.stdout).unwrap();
    let ended = Quickstart::fixture().arguments(&["version", "--json"]).run().await;
    let version: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&version["name"], &version["version"]), (&"chassis-tests".into(), &env!("CARGO_PKG_VERSION").into()));
    assert_eq!(version["git_commit"], head.trim());
}

#[tokio::test]
async fn routes_are_listed_and_nothing_else_is_on_standard_output() {
    let text = print(&["routes"]).await;
    assert_eq!(
        text,
        "GET     /orders/{id}               Look one order up.\n\
         POST    /orders                    Place an order.\n\
         gRPC    orders.v1.Orders/GetOrder  Look one order up.\n"
    );
    let json: Value = serde_json::from_str(&print(&["routes", "--json"]).await).unwrap();
    assert_eq!(json["http"][1]["timeout"], "2s");
    assert_eq!(json["grpc"], serde_json::json!(["orders.v1.Orders"]));
}

#[tokio::test]
async fn layers_are_listed_outermost_first_with_their_numbers_in_effect() {
    let text = print(&["layers", "--set", "http.body_limit=3KiB"]).await;
    let place = |name: &str| text.lines().position(|line| line.starts_with(&format!("{name} "))).expect(name);
    let order = ["observe", "catch_panic", "drain", "deadline", "body_limit", "fallback", "router"];
    assert!(place("observe") == 0 && order.map(place).is_sorted(), "{text}");
    assert!(text.contains("http.body_limit = 3KiB"), "{text}");
    let json: Value = serde_json::from_str(&print(&["layers", "--json"]).await).unwrap();
    assert_eq!(json[0]["name"], "observe");
}

#[tokio::test]
async fn help_names_every_command_and_a_wrong_one_is_code_2() {
    let help = print(&["--help"]).await;
    for command in ["serve", "config", "routes", "layers", "openapi", "healthcheck", "version"] {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
    }
    assert!(help.starts_with("Run the service, or ask about it\n"), "{help}");
    for wrong in [&["no-such-command"][..], &["--no-such-flag"], &["config"], &["config", "explain", "http.adress"]] {
        let ended = run(wrong).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{wrong:?}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn config_check_says_yes_or_everything_that_is_wrong() {
    assert_eq!(print(&["config", "check"]).await, "the configuration is right\n");
    let ended = run(&["config", "check", "--set", "http.adress=x", "--set", "log.format=xml"]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(78), ""));
    assert!(ended.stderr.starts_with("quickstart: 2 problems in the configuration:\n"), "{}", ended.stderr);
}

#[tokio::test]
async fn config_print_gives_each_value_with_its_origin() {
    let ended = Quickstart::bare()
        .env("CHASSIS_SHUTDOWN__DRAIN_DELAY", "7s")
        .file("config/default.toml", "[shutdown]\ngrace = \"11s\"\n")
        .arguments(&["config", "print", "--set", "http.tcp_nodelay=false"])
        .run()
        .await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    for line in [
        "shutdown.drain_delay = \"7s\"   # environment CHASSIS_SHUTDOWN__DRAIN_DELAY",
        "shutdown.grace = \"11s\"   # config/default.toml:2",
        "http.tcp_nodelay = false   # command line --set http.tcp_nodelay",
        "http.address = \"127.0.0.1:8080\"   # built-in default of profile dev",
    ] {
        assert!(ended.stdout.lines().any(|found| found == line), "{line} in\n{}", ended.stdout);
    }
}

#[tokio::test]
async fn the_annotated_default_file_is_itself_a_right_configuration() {
    let file = print(&["config", "print", "--default"]).await;
    // With every default set for itself; a key without a default has a sample that means something, and so has the table
    // that somebody may name.
    let (mut has_default, mut is_sample) = (true, false);
    let set = file.lines().map(|line| {
        has_default = !line.starts_with("# Not set by default") && (has_default || !line.starts_with('#'));
        is_sample = line.starts_with("#[") || (is_sample && !line.starts_with('['));
        match line.strip_prefix('#') {
            Some(key) if key.starts_with(char::is_alphabetic) && has_default && !is_sample => key,
            _ => line,
        }
    });
    let set: String = set.flat_map(|line| [line, "\n"]).collect();
    let ended =
        Quickstart::bare().file("c.toml", &set).arguments(&["config", "check", "--config", "c.toml"]).run().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn config_explain_says_all_there_is_to_know_of_a_key() {
    let text = print(&["config", "explain", "shutdown.drain_delay", "--profile", "prod"]).await;
    for part in
        ["Default \"5s\"", "CHASSIS_SHUTDOWN__DRAIN_DELAY", "Applies on reload", "Now: \"5s\"   # built-in default"]
    {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let ended = run(&["config", "explain", "shutdown.drain_dely"]).await;
    assert!(ended.stderr.contains("did you mean shutdown.drain_delay?"), "{}", ended.stderr);
}

#[tokio::test]
async fn config_schema_is_json_schema_of_all_sections() {
    let schema: Value = serde_json::from_str(&print(&["config", "schema"]).await).unwrap();
    for section in ["http", "admin", "shutdown", "log", "telemetry", "health", "app"] {
        assert!(schema["properties"][section].is_object(), "{section}");
    }
}

#[tokio::test]
async fn healthcheck_is_0_when_ready_and_1_when_not() {
    let mut service = Quickstart::new().set("shutdown.drain_delay", "10m").start().await;
    let address = format!("http.address={}", service.http);
    let ask = |arguments: &'static [&'static str]| {
        Quickstart::bare().arguments(&["healthcheck", "--set", &address]).arguments(arguments).run()
    };
    for (arguments, answer) in
        [(&[][..], "/readyz: ok\n"), (&["--live"], "/livez: ok\n"), (&["--startup"], "/startupz: ok\n")]
    {
        let ended = ask(arguments).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), answer), "{}", ended.stderr);
    }
    service.process.signal(rustix::process::Signal::TERM);
    service.process.says("draining").await;
    let ended = ask(&[]).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), "quickstart: /readyz: 503 failed: draining\n"));
    assert_eq!(ask(&["--live"]).await.code, Some(0));
    service.process.signal(rustix::process::Signal::TERM);
    assert_eq!(service.process.exit_code().await, 0);
    let ended = ask(&[]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("no answer from"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_healthcheck_waits_no_longer_than_its_timeout() {
    // Accepted by the kernel, answered by nobody.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http.address={}", deaf.local_addr().unwrap());
    let ended = run(&["healthcheck", "--timeout", "100ms", "--set", &address]).await;
    assert_eq!(ended.code, Some(1));
}

#[test]
fn a_reader_that_has_seen_enough_makes_no_command_fail() {
    for command in [&["config", "schema"][..], &["config", "print", "--default"], &["--help"], &["routes"]] {
        let mut child = Command::new(process::binary())
            .args(command)
            .env_clear()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""), "{command:?}");
    }
}
