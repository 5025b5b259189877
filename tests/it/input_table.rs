//! Bad input, row by row: each is the right 4xx with its place.

use serde_json::{Value, json};

use crate::{
    input_service::start,
    support::raw::{Answer, Raw},
};

/// A request with a body; more headers may stand before the type.
fn send(method: &str, target: &str, content_type: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut request = format!("{method} {target} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n", body.len());
    if !content_type.is_empty() {
        request.push_str(&format!("content-type: {content_type}\r\n"));
    }
    [request.as_bytes(), b"\r\n", body].concat()
}

fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n").into_bytes()
}

fn post(target: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    send("POST", target, "application/json", body)
}

struct Row {
    name: &'static str,
    request: Vec<u8>,
    status: u16,
    code: &'static str,
    /// Pointers and parameters, in order.
    places: &'static [&'static str],
}

fn row(name: &'static str, request: Vec<u8>, status: u16, places: &'static [&'static str]) -> Row {
    let code = match status {
        404 => "not_found",
        405 => "method_not_allowed",
        413 => "payload_too_large",
        _ => "invalid_request",
    };
    Row { name, request, status, code, places }
}

fn rows() -> Vec<Row> {
    let order = r#"{"customer":"a","items":[]}"#;
    vec![
        row("a word for a number in the path", get("/ints/seven"), 400, &["id"]),
        row("a number out of range in the path", get("/ints/256"), 400, &["id"]),
        row("a number below its range in the path", get("/ints/-1"), 400, &["id"]),
        row("an unknown enum value in the path", get("/colors/green"), 400, &["color"]),
        row("a path parameter against its type's own rule", get("/skus/7"), 400, &["sku"]),
        row("a path parameter that is no number, optional", get("/options/x"), 400, &["id"]),
        row("no finite number in the path", get("/floats/NaN/and/true"), 400, &["x"]),
        row("the second of two path parameters", get("/floats/1/and/yes"), 400, &["flag"]),
        row("invalid UTF-8 in the path", get("/texts/%ff"), 400, &["text"]),
        row("a percent-encoded slash does not split a number", get("/ints/1%2F2"), 400, &["id"]),
        row("an empty path segment", get("/ints/"), 404, &[]),
        row("an empty path segment in the middle", get("/floats//and/true"), 400, &["x"]),
        row("a trailing slash", get("/ints/7/"), 404, &[]),
        row("a doubled slash", get("//ints/7"), 404, &[]),
        row("a percent-encoded slash is no separator", get("/ints%2F7"), 404, &[]),
        row("an encoded template name is another path", get("/%69nts/7"), 404, &[]),
        row("a dot segment is not resolved", get("/texts/../ints/7"), 404, &[]),
        row("a method that the path does not have", send("PUT", "/ints/7", "", ""), 405, &[]),
        row("a number out of range in the query", get("/filter?limit=256"), 400, &["limit"]),
        row("a scalar given twice in the query", get("/filter?limit=1&limit=2"), 400, &["limit"]),
        row("an unknown enum value in the query", get("/filter?color=green"), 400, &["color"]),
        row("a bad item of a list in the query", get("/filter?ids=1&ids=x"), 400, &["ids"]),
        row("invalid UTF-8 in the query", get("/filter?name=%ff"), 400, &["name"]),
        row("an unknown parameter where none is allowed", get("/range?from=1&to=1&size=3"), 400, &["size"]),
        row("all mistakes of a query", get("/range?to=x&size=3"), 400, &["size", "to", "from"]),
        row("a parameter against its rule", get("/checked?limit=0&tags=ab&tags=c"), 400, &["limit", "tags"]),
        row("a path parameter against its rule", get("/checked/abc"), 400, &["code"]),
        row("no content type", send("POST", "/orders", "", order), 415, &[]),
        row("another content type", send("POST", "/orders", "text/plain", order), 415, &[]),
        row("a form", send("POST", "/orders", "application/x-www-form-urlencoded", "customer=a"), 415, &[]),
        row(
            "a compressed body",
            send("POST", "/orders", "application/json\r\ncontent-encoding: gzip", order),
            415,
            &[],
        ),
        row("an empty body", post("/orders", ""), 400, &[]),
        row("no JSON at all", post("/orders", "customer"), 400, &[]),
        row("JSON that ends too early", post("/orders", r#"{"customer":"#), 400, &[]),
        row("trailing garbage", post("/orders", format!("{order}x")), 400, &[]),
        row("invalid UTF-8 in the body", post("/orders", b"{\"customer\":\"\xff\",\"items\":[]}"), 400, &[]),
        row("invalid UTF-8 in a field that nobody reads", post("/orders", b"{\"x\":\"\xff\"}"), 400, &[]),
        row("a byte order mark", post("/orders", format!("\u{feff}{order}")), 400, &[]),
        row("NaN", post("/any", "NaN"), 400, &[]),
        row("deep JSON", post("/any", "[".repeat(100_000)), 400, &[]),
        row("deep JSON where nobody reads it", post("/orders", format!("{{\"x\":{}", "[".repeat(100_000))), 400, &[]),
        row("huge JSON", post("/any", format!("\"{}\"", "x".repeat(300_000))), 413, &[]),
        row("a wrong type", post("/orders", r#"{"customer":7,"items":[]}"#), 422, &["/customer"]),
        row("a list for an object", post("/orders", r#"["a",[]]"#), 422, &[""]),
        row("a missing field", post("/orders", r#"{"customer":"a"}"#), 422, &["/items"]),
        row(
            "a field given twice",
            post("/orders", r#"{"customer":"a","customer":"b","items":[]}"#),
            422,
            &["/customer"],
        ),
        row(
            "an unknown field deep inside",
            post("/orders", r#"{"customer":"a","items":[{"sku":"sku-1","count":1,"a/b~c":1}]}"#),
            422,
            &["/items/0/a~1b~0c"],
        ),
        row("an unknown enum value", post("/payments", r#""gold""#), 422, &[""]),
        row("a wrong type in a variant", post("/payments", r#"{"card":{"number":7}}"#), 422, &["/card/number"]),
        row("a number out of range", post("/payments", r#"{"points":128}"#), 422, &["/points"]),
        row("a number that no type holds", post("/payments", r#"{"points":1e999}"#), 422, &["/points"]),
        row("a wrong type in a map", post("/counts", r#"{"a":[1],"b":[2,"x"]}"#), 422, &["/b/1"]),
        row(
            "a wrong key of a map",
            post("/orders", r#"{"customer":"a","items":[],"notes":{"x":""}}"#),
            422,
            &["/notes"],
        ),
        row("no choice fits", post("/either", "true"), 422, &[""]),
        row(
            "all mistakes of a body",
            post("/orders", r#"{"items":[{"count":-1}],"payment":7,"area":[1]}"#),
            422,
            &["/items/0/count", "/items/0/sku"],
        ),
        row(
            "rules, all at once, in the caller's names",
            send(
                "PATCH",
                "/checked",
                "application/json",
                r#"{"firstName":"","itemCount":11,"innerParts":[{"partName":"a"},{"partName":"é"}]}"#,
            ),
            422,
            &["/firstName", "/innerParts/1/partName", "/itemCount"],
        ),
    ]
}

fn places(problem: &Value) -> Vec<&str> {
    let violations = problem["violations"].as_array().map(Vec::as_slice).unwrap_or_default();
    let place = |violation: &'_ Value| {
        violation.get("pointer").or(violation.get("parameter")).and_then(Value::as_str).map(str::len)
    };
    assert!(violations.iter().all(|violation| place(violation).is_some()), "{problem}");
    violations
        .iter()
        .filter_map(|violation| violation.get("pointer").or(violation.get("parameter")).and_then(Value::as_str))
        .collect()
}

async fn answer(service: &chassis::testing::TestService, request: &[u8]) -> Answer {
    let mut raw = Raw::connect(service.http()).await;
    raw.send(request).await;
    raw.answer().await.expect("an answer")
}

#[tokio::test]
async fn every_row_is_the_right_problem_with_its_places() {
    let service = start().await;
    for Row { name, request, status, code, places: expected } in rows() {
        let answer = answer(&service, &request).await;
        assert_eq!(answer.status, status, "{name}: {}", answer.json());
        answer.assert_problem(status, code);
        assert_eq!(places(&answer.json()), expected, "{name}: {}", answer.json());
        assert!(status == 404 || status == 405 || status == 413 || answer.json()["detail"].is_string(), "{name}");
    }
}

#[tokio::test]
async fn a_415_says_what_would_be_taken() {
    let service = start().await;
    let typed = answer(&service, &send("POST", "/any", "text/plain", "1")).await;
    assert_eq!((typed.status, typed.header("accept")), (415, "application/json"));
    let coded = answer(&service, &send("POST", "/any", "application/json\r\ncontent-encoding: br", "1")).await;
    assert_eq!((coded.status, coded.header("accept-encoding")), (415, "identity"));
}

#[tokio::test]
async fn what_looks_odd_and_is_right_is_served() {
    let service = start().await;
    for (request, expected) in [
        (get("/texts/a%2Fb%20c+d"), json!("a/b c+d")),
        (get("/texts/%zz"), json!("%zz")),
        (get("/files/a//b%2Fc"), json!("a//b/c")),
        (get("/options/7"), json!(7)),
        (get("/options//more"), Value::Null),
        (get("/map?a=1&b=2&a=%2B+&&c"), json!({ "a": ["1", "+ "], "b": ["2"], "c": [""] })),
        (
            get("/filter?limit=&name=&ids=2&ids=1"),
            json!({ "limit": null, "name": "", "ids": [2, 1], "color": null, "exact": false, "sku": null }),
        ),
        (send("DELETE", "/range", "", ""), Value::Null),
        (send("PUT", "/orders/7", "", ""), json!([7, null])),
        (send("PUT", "/orders/7", "application/json", "null"), json!([7, null])),
        (send("POST", "/any", "APPLICATION/JSON ; charset=\"UTF-8\"\r\ncontent-encoding: identity", " 1 "), json!(1)),
        (send("POST", "/any", "application/json; charset=utf8", "1"), json!(1)),
        (send("POST", "/any", "application/vnd.shop+json;charset=latin1", "1"), json!(1)),
        (post("/any", r#"{"a":1,"a":2}"#), json!({ "a": 2 })),
        (
            get("/extract/7?limit=1"),
            json!([7, 1, { "limit": 1, "name": null, "ids": [], "color": null, "exact": false, "sku": null }]),
        ),
    ] {
        let shown = String::from_utf8_lossy(&request).into_owned();
        let answer = answer(&service, &request).await;
        assert_eq!((answer.status, answer.json()), (200, expected), "{shown}");
    }
}
