//! The document before its validator, and running services before schemathesis, which asks them everything that their
//! documents allow and much that they do not.

use std::net::SocketAddr;

use chassis::{Chassis, testing::TestService};

use crate::support::{
    catalogue::{Catalogue, Depot},
    process::{Ended, Folder, Quickstart},
    python,
};

/// Always the same requests: what fails on one machine fails on all.
const SEED: &str = "1";

async fn validate(document: &str) {
    let folder = Folder::new();
    let file = folder.write("openapi.json", document);
    let ended = python::tool(&["-m", "openapi_spec_validator", file.to_str().unwrap()], "", folder.path()).await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
}

/// All checks of schemathesis, with all its phases.
async fn schemathesis(service: SocketAddr, further: &[&str]) -> Ended {
    let folder = Folder::new();
    let address = format!("http://{service}/openapi.json");
    let run = ["-m", "schemathesis.cli", "run", &address, "--seed", SEED, "--max-examples", "50", "--no-color"];
    let bounds = ["--request-timeout", "10", "--generation-database", "none", "--workers", "1"];
    python::tool(&[&run[..], &bounds, further].concat(), "", folder.path()).await
}

#[tokio::test]
async fn the_validator_has_nothing_to_say() {
    let mount = |chassis: Chassis| chassis.mount(Catalogue::default()).mount(Depot::default());
    let service = TestService::start(mount).await.unwrap();
    validate(&service.get("/openapi.json").await.unwrap().text()).await;
    let printed = Quickstart::bare().arguments(&["openapi"]).run().await;
    validate(&printed.stdout).await;
}

/// The tool itself is tried: a document that is not OpenAPI is found.
#[tokio::test]
async fn the_validator_would_say_if_there_were_something() {
    let folder = Folder::new();
    let file = folder.write("openapi.json", r#"{"openapi": "3.1.1", "info": {"title": "a"}, "paths": {}}"#);
    let ended = python::tool(&["-m", "openapi_spec_validator", file.to_str().unwrap()], "", folder.path()).await;
    assert_ne!(ended.code, Some(0), "{}", ended.stdout);
}

#[tokio::test]
async fn schemathesis_finds_nothing_in_quickstart() {
    let mut service = Quickstart::new().start().await;
    let ended = schemathesis(service.http, &[]).await;
    assert!(ended.code == Some(0) && ended.stdout.contains("No issues found"), "{}{}", ended.stdout, ended.stderr);
    assert_eq!(service.terminate().await, 0);
}

#[tokio::test]
async fn schemathesis_finds_nothing_in_the_orders_example() {
    let printed = Quickstart::example("orders").arguments(&["openapi"]).run().await;
    validate(&printed.stdout).await;
    let mut service = Quickstart::example("orders").start().await;
    // It reads answers to their end, and an order that is followed may never have one.
    let ended = schemathesis(service.http, &["--exclude-path-regex", "/events$"]).await;
    // It warns that it seldom guesses the id of an order that can be shipped: no finding.
    assert!(ended.code == Some(0) && !ended.stdout.contains('❌'), "{}{}", ended.stdout, ended.stderr);
    assert_eq!(service.terminate().await, 0);
}

#[tokio::test]
async fn schemathesis_finds_nothing_in_a_service_with_every_kind_of_argument() {
    let mount = |chassis: Chassis| chassis.mount(Catalogue::default()).mount(Depot::default());
    let service = TestService::start(mount).await.unwrap();
    let ended = schemathesis(service.http(), &[]).await;
    assert!(ended.code == Some(0) && ended.stdout.contains("No issues found"), "{}{}", ended.stdout, ended.stderr);
}
