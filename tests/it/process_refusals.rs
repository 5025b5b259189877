//! A wrong service does not start: the exit code, and a message that says what to type.

use std::{
    io,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
};

use crate::support::process::Quickstart;

/// Starts the service, which must end by itself; gives what it said.
async fn refused(service: Quickstart, code: i32) -> String {
    let ended = service.run().await;
    assert_eq!(ended.code, Some(code), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stderr.starts_with("quickstart: "), "{}", ended.stderr);
    ended.stderr
}

#[tokio::test]
async fn a_port_in_use_is_69_and_names_key_and_variable() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (key, variable) in [("http.address", "CHASSIS_HTTP__ADDRESS"), ("admin.address", "CHASSIS_ADMIN__ADDRESS")] {
        let said = refused(Quickstart::new().set(key, &address), 69).await;
        assert!([key, variable, &address].iter().all(|part| said.contains(part)), "{said}");
    }
}

#[tokio::test]
async fn a_configuration_file_that_cannot_be_read_is_78_and_named() {
    let said = refused(Quickstart::new().arguments(&["--config", "no-such.toml"]), 78).await;
    assert!(said.contains("no-such.toml: there is no such file"), "{said}");
    let said = refused(Quickstart::new().arguments(&["--config", "."]), 78).await;
    assert!(said.contains(".: "), "{said}");
    let said = refused(Quickstart::new().file("c.toml", "[http\n").arguments(&["--config", "c.toml"]), 78).await;
    assert!(said.contains("c.toml"), "{said}");

    let service = Quickstart::new().file("c.toml", "").arguments(&["--config", "c.toml"]);
    let file = service.path("c.toml");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads everything.
    if std::fs::read(&file).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
        let said = refused(service, 78).await;
        assert!(said.contains("c.toml"), "{said}");
    }
}

#[tokio::test]
async fn every_mistake_is_told_at_once_with_key_origin_and_the_nearest_name() {
    let service = Quickstart::new()
        .env("CHASSIS_HTTP__ADRESS", "127.0.0.1:0")
        .env("CHASSIS_SHUTDOWN__DRAIN_DELAY", "soon")
        .file("config/default.toml", "[log]\nfilter = \"infoo\"\nformt = \"json\"\n")
        .file("config/dev.toml", "[http]\nmax_connections = 0\n")
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon")
        .env("OTEL_BSP_MAX_QUEUE_SIZE", "abc")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
        .set("http.body_limt", "1MiB");
    let said = refused(service, 78).await;
    for part in [
        "8 problems in the configuration:",
        "CHASSIS_HTTP__ADRESS: unknown; did you mean CHASSIS_HTTP__ADDRESS?",
        "shutdown.drain_delay: found \"soon\", expected a duration",
        "(environment CHASSIS_SHUTDOWN__DRAIN_DELAY)",
        "log.formt: unknown key; did you mean log.format? (config/default.toml:3)",
        "http.max_connections: found 0, ",
        "(config/dev.toml:2)",
        "http.body_limt: unknown; did you mean http.body_limit? (command line --set http.body_limt)",
        "OTEL_EXPORTER_OTLP_PROTOCOL: found \"carrier-pigeon\"",
        "OTEL_BSP_MAX_QUEUE_SIZE: found \"abc\"",
        "log.filter: found \"infoo\"",
        "did you mean \"info\"?",
    ] {
        assert!(said.contains(part), "{part} in\n{said}");
    }
}

#[tokio::test]
async fn a_bad_otel_variable_is_78_and_tls_to_a_collector_is_refused_in_words() {
    for (variable, value, part) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4317", "without TLS"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "not a url", "OTEL_EXPORTER_OTLP_ENDPOINT: found \"not a url\""),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many", "OTEL_BSP_MAX_QUEUE_SIZE: found \"many\""),
        ("OTEL_TRACES_SAMPLER", "sometimes", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "2", "OTEL_TRACES_SAMPLER_ARG"),
        ("OTEL_PROPAGATORS", "smoke", "smoke"),
    ] {
        let service =
            Quickstart::new().env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318").env(variable, value);
        let said = refused(service, 78).await;
        assert!(said.contains(part), "{variable}={value}: {said}");
    }
}

#[tokio::test]
async fn no_port_opens_before_the_configuration_is_valid() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let service = Quickstart::new().set("http.address", &address.to_string()).set("shutdown.grace", "x");
    let ended = service.run().await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(78), ""), "not even a log line");
    assert!(TcpStream::connect(address).is_err());
}

#[tokio::test]
async fn a_secret_in_the_wrong_place_is_refused_without_being_told() {
    let said = refused(Quickstart::new().env("CHASSIS_ADMIN__TOKE", "hunter2"), 78).await;
    assert!(said.contains("did you mean CHASSIS_ADMIN__TOKEN?") && !said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn a_variable_reaches_a_key_whose_name_has_an_underscore() {
    let ended = Quickstart::bare()
        .env("CHASSIS_SHUTDOWN__DRAIN_DELAY", "1m30s")
        .arguments(&["config", "explain", "shutdown.drain_delay"])
        .run()
        .await;
    assert!(
        ended.stdout.contains("Now: \"1m30s\"   # environment CHASSIS_SHUTDOWN__DRAIN_DELAY"),
        "{}{}",
        ended.stdout,
        ended.stderr
    );
}

#[tokio::test]
async fn a_ready_file_that_cannot_be_written_stops_the_start() {
    let said = refused(Quickstart::new().arguments(&["--ready-file", "no/such/folder/ready.json"]), 69).await;
    assert!(said.contains("--ready-file: cannot write no/such/folder/ready.json"), "{said}");
}
