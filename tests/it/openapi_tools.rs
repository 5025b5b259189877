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

/// Makes a client of the document in Python, and reads which statuses it knows of each operation.
const PYTHON_CLIENT: &str = r#"
import glob, json, subprocess, sys
made = subprocess.run(
    [sys.executable, "-m", "openapi_python_client", "generate", "--path", "openapi.json", "--output-path", "made",
     "--meta", "none", "--config", "config.json"], capture_output=True, text=True)
assert made.returncode == 0, made.stdout + made.stderr
document = json.load(open("openapi.json"))
modules = {path.rsplit("/", 1)[1][:-3]: open(path).read() for path in glob.glob("made/api/**/*.py", recursive=True)}
words = lambda name: "".join("_" + c.lower() if c.isupper() else c for c in name).replace("-", "_").strip("_")
missing, known = [], 0
for path in document["paths"].values():
    for operation in path.values():
        if "responses" not in operation:
            continue
        name = words(operation["operationId"])
        source = modules.get(name) or modules[name + "_"]
        for status, response in operation["responses"].items():
            if "$ref" in response:
                response = document["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
            if status == "default" or "application/problem+json" not in response.get("content", {}):
                continue
            known += 1
            if f"== {status}:" not in source:
                missing.append((operation["operationId"], status))
print(json.dumps({"missing": missing, "known": known, "told": made.stdout}))
"#;

#[tokio::test]
async fn a_client_in_python_keeps_every_problem() {
    let mount = |chassis: Chassis| chassis.mount(Catalogue::default()).mount(Depot::default());
    let service = TestService::start(mount).await.unwrap();
    let orders = Quickstart::example("orders").arguments(&["openapi"]).run().await.stdout;
    for document in [service.get("/openapi.json").await.unwrap().text(), orders] {
        let folder = Folder::new();
        folder.write("openapi.json", &document);
        folder.write("config.json", r#"{"post_hooks": []}"#);
        let ended = python::tool(&["-c", PYTHON_CLIENT], "", folder.path()).await;
        assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
        let read: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(read["missing"], serde_json::json!([]), "{}", read["told"].as_str().unwrap());
        assert!(read["known"].as_u64().unwrap() > 10, "{read}");
        assert!(!read["told"].as_str().unwrap().contains("merged"), "{read}");
    }
}

/// What a caller in TypeScript writes, checked by its compiler: codes are told apart, and a wrong one is an error.
const TYPESCRIPT: &str = r#"
import type { paths } from "./orders";
type Responses = paths["/orders/{id}"]["get"]["responses"];
type NotFound = Responses[404]["content"]["application/problem+json"];
export const code: NotFound["code"] = "unknown_order";
export const status: NotFound["status"] = 404;
// @ts-expect-error: there is no such code.
export const wrong: NotFound["code"] = "unknown_customer";
"#;

#[tokio::test]
async fn a_client_in_typescript_keeps_every_problem() {
    let Some(node) = std::env::var_os("XTASK_NODE").map(std::path::PathBuf::from) else {
        println!("left out: XTASK_NODE is not set; `cargo xtask test` sets it where npm is");
        return;
    };
    let document = Quickstart::example("orders").arguments(&["openapi"]).run().await.stdout;
    let folder = Folder::new();
    folder.write("openapi.json", &document);
    folder.write("caller.ts", TYPESCRIPT);
    let run = async |arguments: &[&str]| {
        let mut command = tokio::process::Command::new("node");
        command.current_dir(folder.path()).arg(node.join("node_modules").join(arguments[0])).args(&arguments[1..]);
        Ended::of(command.output().await.expect("node"))
    };
    let made = run(&["openapi-typescript/bin/cli.js", "openapi.json", "-o", "orders.ts"]).await;
    assert_eq!(made.code, Some(0), "{}{}", made.stdout, made.stderr);
    let checked = run(&["typescript/bin/tsc", "--noEmit", "--strict", "caller.ts"]).await;
    assert_eq!(checked.code, Some(0), "{}{}", checked.stdout, checked.stderr);
}
