//! The command `openapi`.

use serde_json::Value;

use crate::support::process::Quickstart;

#[tokio::test]
async fn the_document_is_printed_without_anything_being_started() {
    // The address is in no interface of this machine: whoever bound it would fail.
    let ended = Quickstart::bare().set("http.address", "203.0.113.1:1").arguments(&["openapi"]).run().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let document: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(document["info"]["title"], "quickstart");
    assert_eq!(document["paths"]["/orders/{id}"]["get"]["operationId"], "order");
}

#[tokio::test]
async fn what_is_printed_is_what_is_served_whatever_the_configuration() {
    let mut service = Quickstart::new().set("service.name", "other").set("http.body_limit", "1KiB").start().await;
    let printed = Quickstart::bare().set("openapi.enabled", "false").arguments(&["openapi"]).run().await;
    assert_eq!(service.get("/openapi.json").await.body, printed.stdout);
    assert_eq!(service.terminate().await, 0);
}

#[tokio::test]
async fn types_that_are_not_described_are_told_on_standard_error() {
    let ended = Quickstart::fixture().arguments(&["openapi"]).run().await;
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.stderr.starts_with("not described, derive schemars::JsonSchema for:\n  fixture::Text (answer of GET "),
        "{}",
        ended.stderr
    );
    assert!(serde_json::from_str::<Value>(&ended.stdout).is_ok());
}

async fn check(file: &str, content: &str) -> (Option<i32>, String, String) {
    let ended = Quickstart::bare().file(file, content).arguments(&["openapi", "--check", "openapi.json"]).run().await;
    (ended.code, ended.stdout, ended.stderr)
}

#[tokio::test]
async fn a_committed_document_is_compared_by_what_it_says() {
    let printed = Quickstart::bare().arguments(&["openapi"]).run().await.stdout;
    let mut document: Value = serde_json::from_str(&printed).unwrap();
    let same = (Some(0), "openapi.json says what the service does\n".to_owned(), String::new());
    assert_eq!(check("openapi.json", &printed).await, same);
    assert_eq!(check("openapi.json", &document.to_string()).await, same, "how it is laid out does not matter");

    document["paths"]["/orders"]["post"]["summary"] = "Sell an order.".into();
    let (code, stdout, stderr) = check("openapi.json", &document.to_string()).await;
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    for line in [
        "quickstart: openapi.json does not say what the service does",
        "write it anew with `openapi > openapi.json`",
        "\n  - /paths/~1orders/post/summary: \"Sell an order.\"\n  + /paths/~1orders/post/summary: \"Place an order.\"\n",
    ] {
        assert!(stderr.contains(line), "{line} in {stderr}");
    }
    let (code, _, stderr) = check("openapi.json", "openapi: 3.1.1").await;
    assert!(code == Some(1) && stderr.contains("is not JSON"), "{stderr}");
    let (code, _, stderr) = check("other.json", &printed).await;
    assert!(code == Some(69) && stderr.contains("cannot read openapi.json"), "{stderr}");
}
