//! The document against the service: what is listed can be provoked, and what is answered is listed.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::atomic::Ordering,
};

use chassis::{Chassis, testing::TestService};
use http::Request;
use serde_json::{Value, json};

use crate::support::{
    catalogue::{Catalogue, Depot, item},
    python,
    raw::Raw,
};

/// A request to an operation, and what comes of it when all is well.
struct Call {
    operation: &'static str,
    path: &'static str,
    body: Option<Value>,
}

fn call(operation: &'static str, path: &'static str) -> Call {
    Call { operation, path, body: None }
}

fn with_body(operation: &'static str, path: &'static str, body: Value) -> Call {
    Call { operation, path, body: Some(body) }
}

/// One for each operation; it succeeds.
fn calls() -> Vec<Call> {
    let cup = json!(item("cup"));
    vec![
        call("item", "/items/7"),
        call("items", "/items?limit=1&colour=red"),
        with_body("add", "/items", json!({ "name": "cup", "cents": 99, "parts": [cup] })),
        with_body("put", "/shelves/dark_blue/top%2Fleft", cup),
        with_body("change", "/items/7", json!({ "change": "price", "cents": -5 })),
        call("remove", "/drafts/-7"),
        call("has", "/colours/red"),
        call("events", "/events"),
        call("lines", "/lines"),
        call("narrow", "/narrow"),
        call("raw", "/raw"),
        call("dynamic", "/dynamic/word"),
        call("file", "/v1/depot/files/a/b%2Fc"),
    ]
}

/// What goes wrong for reasons of the service's own, or of an argument.
fn failures() -> Vec<Call> {
    vec![
        call("item", "/items/404"),
        call("item", "/items/410"),
        call("item", "/items/503"),
        call("item", "/items/seven"),
        call("items", "/items"),
        call("items", "/items?limit=256"),
        call("items", "/items?limit=1&colour=green"),
        with_body("add", "/items", json!(item("taken"))),
        with_body("add", "/items", json!(item("locked"))),
        with_body("add", "/items", json!(item("nameless"))),
        with_body("put", "/shelves/green/top", json!(item("cup"))),
        with_body("change", "/items/-1", json!({ "change": "price", "cents": 5 })),
        call("remove", "/drafts/1.5"),
        call("has", "/colours/green"),
        call("dynamic", "/dynamic/%FF"),
        call("dynamic", "/dynamic/teapot"),
        call("file", "/v1/depot/files/items/404"),
        call("file", "/v1/depot/files/items/410"),
        call("file", "/v1/depot/files/items/503"),
        call("file", "/v1/depot/files/sealed"),
        call("file", "/v1/depot/files/%FF"),
    ]
}

/// An answer, as far as the document tells of it.
#[derive(Debug)]
struct Seen {
    status: u16,
    media: String,
    headers: Vec<String>,
    body: Value,
}

impl Seen {
    fn of(status: u16, headers: &[(String, String)], body: &[u8]) -> Self {
        let media = headers.iter().find(|(name, _)| name == "content-type").map_or("", |(_, value)| value);
        Self {
            status,
            media: media.split(';').next().unwrap_or_default().to_owned(),
            headers: headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect(),
            body: serde_json::from_slice(body).unwrap_or_else(|_| String::from_utf8_lossy(body).into_owned().into()),
        }
    }

    /// What is to be validated, and against which schema of the content: the whole, or each item of a stream.
    fn values(&self) -> Vec<(&'static str, Value)> {
        let prefix = match self.media.as_str() {
            "text/event-stream" => "data: ",
            "application/x-ndjson" => "",
            _ => return vec![("/schema", self.body.clone())],
        };
        // A stream of one line of JSON is JSON.
        let text = self.body.as_str().map_or_else(|| self.body.to_string(), str::to_owned);
        let items = text.lines().filter_map(|line| line.strip_prefix(prefix)).filter(|item| !item.is_empty());
        items.map(|item| ("/x-item-schema", serde_json::from_str(item).unwrap())).collect()
    }

    /// The problem's word; none for a success, or where there is no body to say it.
    fn code(&self) -> Option<String> {
        Some(self.body["code"].as_str().filter(|_| self.status >= 400)?.to_owned())
    }
}

/// The document of the running service, with its operations by id: method, JSON pointer and content.
struct Described {
    document: Value,
    operations: BTreeMap<String, (String, String, Value)>,
}

impl Described {
    fn new(document: Value) -> Self {
        let mut operations = BTreeMap::new();
        for (path, item) in document["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("operations") {
                let pointer = format!("/paths/{}/{method}", path.replace('~', "~0").replace('/', "~1"));
                let id = operation["operationId"].as_str().expect("an id").to_owned();
                operations.insert(id, (method.to_uppercase(), pointer, operation.clone()));
            }
        }
        Self { document, operations }
    }

    fn method(&self, operation: &str) -> &str {
        &self.operations[operation].0
    }

    /// A response with its place, wherever it stands.
    fn response(&self, operation: &str, status: &str) -> Option<(String, &Value)> {
        let (_, pointer, _) = &self.operations[operation];
        let pointer = format!("{pointer}/responses/{status}");
        let response = self.document.pointer(&pointer)?;
        match response["$ref"].as_str() {
            Some(reference) => Some((reference[1..].to_owned(), self.document.pointer(&reference[1..])?)),
            None => Some((pointer, response)),
        }
    }

    /// Every status of an operation with every code that is listed for it.
    fn listed(&self, operation: &str) -> BTreeSet<(String, Option<String>)> {
        let mut listed = BTreeSet::new();
        for status in self.operations[operation].2["responses"].as_object().expect("responses").keys() {
            let (_, response) = self.response(operation, status).expect("a response");
            let code = &response["content"]["application/problem+json"]["schema"]["properties"]["code"];
            let mut codes: Vec<_> = code["const"].as_str().map(str::to_owned).into_iter().collect();
            codes.extend(code["enum"].as_array().into_iter().flatten().map(|code| code.as_str().unwrap().to_owned()));
            if codes.is_empty() {
                listed.insert((status.clone(), None));
            }
            listed.extend(codes.into_iter().map(|code| (status.clone(), Some(code))));
        }
        listed
    }
}

/// Sends requests and gathers what they are answered.
struct Provoker<'a> {
    service: &'a TestService,
    described: &'a Described,
    seen: Vec<(&'static str, Seen)>,
}

impl Provoker<'_> {
    async fn send(&mut self, call: &Call, headers: &[(&str, &str)], body: Option<String>) {
        let mut request = Request::builder().method(self.described.method(call.operation)).uri(format!(
            "http://{}{}",
            self.service.http(),
            call.path
        ));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.service.send(request.body(body.unwrap_or_default()).unwrap()).await.unwrap();
        let headers: Vec<_> =
            answer.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        self.seen.push((call.operation, Seen::of(answer.status.as_u16(), &headers, &answer.body)));
    }

    async fn send_plainly(&mut self, call: &Call) {
        let headers: &[_] = if call.body.is_some() { &[("content-type", "application/json")] } else { &[] };
        self.send(call, headers, call.body.as_ref().map(Value::to_string)).await;
    }

    /// A body that is announced and never sent.
    async fn send_no_body(&mut self, call: &Call) {
        let mut raw = Raw::connect(self.service.http()).await;
        let (method, path) = (self.described.method(call.operation), call.path);
        let headers = "host: a\r\ncontent-type: application/json\r\ncontent-length: 9\r\nx-request-timeout-ms: 50\r\n";
        raw.send(format!("{method} {path} HTTP/1.1\r\n{headers}\r\n")).await;
        let answer = raw.answer().await.unwrap();
        self.seen.push((call.operation, Seen::of(answer.status, &answer.headers, &answer.body)));
    }
}

#[tokio::test]
async fn what_is_listed_can_be_provoked_and_what_is_answered_is_listed() {
    let catalogue = Catalogue::default();
    let depot = Depot { panics: catalogue.panics.clone() };
    let (panics, gate, waits) = (catalogue.panics.clone(), catalogue.gate.clone(), catalogue.waits.clone());
    let service = TestService::builder()
        .set("http.body_limit", "1KiB")
        .start(|chassis: Chassis| chassis.mount(catalogue).mount(depot))
        .await
        .unwrap();
    let described = Described::new(service.get("/openapi.json").await.unwrap().json());
    let mut provoker = Provoker { service: &service, described: &described, seen: Vec::new() };

    let calls = calls();
    let called: BTreeSet<_> = calls.iter().map(|call| call.operation.to_owned()).collect();
    assert_eq!(called, described.operations.keys().cloned().collect(), "every operation is called");
    for call in calls.iter().chain(&failures()) {
        provoker.send_plainly(call).await;
    }
    for call in &calls {
        let body = call.body.as_ref().map(Value::to_string);
        let json: &[(&str, &str)] = if body.is_some() { &[("content-type", "application/json")] } else { &[] };
        provoker.send(call, &[json, &[("x-request-timeout-ms", "0")]].concat(), body.clone()).await;
        provoker.send(call, &[json, &[("accept", "image/png")]].concat(), body.clone()).await;
        panics.store(true, Ordering::Relaxed);
        provoker.send(call, json, body.clone()).await;
        panics.store(false, Ordering::Relaxed);
        if let Some(body) = body {
            provoker.send(call, &[("content-type", "text/plain")], Some(body)).await;
            for wrong in ["{", "\"text\"", &format!("\"{}\"", "x".repeat(2048))] {
                provoker.send(call, json, Some(wrong.to_owned())).await;
            }
            provoker.send_no_body(call).await;
        }
    }

    {
        // What the calls before have left behind.
        waits.notified().await;
        let held = gate.lock().await;
        let first = service.get("/narrow");
        let refused = async {
            waits.notified().await;
            provoker.send_plainly(&call("narrow", "/narrow")).await;
            drop(held);
        };
        let (first, ()) = tokio::join!(first, refused);
        assert_eq!(first.unwrap().status, 200);
    }

    let mut provoked: BTreeMap<&str, BTreeSet<(String, Option<String>)>> = BTreeMap::new();
    let mut answers = Vec::new();
    for (operation, seen) in &provoker.seen {
        let listed = described.listed(operation);
        let exact = (seen.status.to_string(), seen.code());
        let entry = if listed.contains(&exact) { exact } else { ("default".to_owned(), None) };
        assert!(listed.contains(&entry), "{operation} answered {seen:?}, which is not in {listed:?}");
        let (pointer, response) = described.response(operation, &entry.0).unwrap();
        for header in response["headers"].as_object().into_iter().flatten().map(|(name, _)| name) {
            // Who is refused in front of the route does not hear that it is deprecated.
            let of_the_route = ["Deprecation", "Sunset"].contains(&header.as_str());
            let optional = ["Retry-After", "Location"].contains(&header.as_str()) || of_the_route && seen.status == 504;
            assert!(
                optional || seen.headers.contains(&header.to_ascii_lowercase()),
                "{operation}: no {header} in {seen:?}"
            );
        }
        if let Some(content) = response["content"].as_object() {
            assert!(content.contains_key(&seen.media), "{operation} answered {seen:?}, which is not {content:?}");
            let content = format!("{pointer}/content/{}", seen.media.replace('/', "~1"));
            answers.extend(
                seen.values()
                    .into_iter()
                    .map(|(schema, body)| json!({ "schema": content.clone() + schema, "body": body })),
            );
        } else if entry.0 != "default" {
            assert_eq!(seen.body, "", "{operation}: a body that is not described: {seen:?}");
        }
        provoked.entry(operation).or_default().insert(entry);
    }
    for operation in described.operations.keys() {
        assert_eq!(provoked[operation.as_str()], described.listed(operation), "{operation}: provoked, and listed");
    }
    assert!(answers.len() > 60, "{}", answers.len());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/foreign/schemas.py");
    let input = json!({ "document": described.document, "answers": answers }).to_string();
    let wrong = python::tool(&[script.to_str().unwrap()], &input, Path::new(env!("CARGO_TARGET_TMPDIR"))).await;
    assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(0), ""), "{}", wrong.stderr);
}

/// What docs/how-to/handlers.md says of paths.
#[tokio::test]
async fn the_rest_of_a_path_is_not_empty_and_a_slash_at_the_end_makes_another_path() {
    let mount = |chassis: Chassis| chassis.mount(Catalogue::default()).mount(Depot::default());
    let service = TestService::start(mount).await.unwrap();
    for (path, status) in [
        ("/v1/depot/files/", 404),
        ("/v1/depot/files", 404),
        ("/v1/depot/files/a/", 200),
        ("/items/7/", 404),
        ("/items/", 404),
        ("/dynamic/", 404),
    ] {
        assert_eq!(service.get(path).await.unwrap().status, status, "{path}");
    }
    let cup = json!(item("cup")).to_string();
    let request = Request::put(format!("http://{}/shelves//top", service.http()));
    let empty = service.send(request.header("content-type", "application/json").body(cup).unwrap()).await.unwrap();
    assert_eq!((empty.status.as_u16(), &empty.json()["violations"][0]["parameter"]), (400, &json!("shelf")));
    assert_eq!(service.get("/v1/depot/files/a/b%2Fc").await.unwrap().json(), json!("a/b/c"));
    assert_eq!(service.get("/v1/depot/files/a/").await.unwrap().json(), json!("a/"));
}

#[tokio::test]
async fn retry_after_and_location_are_sent_where_the_document_names_them() {
    let service = TestService::start(|chassis: Chassis| chassis.mount(Catalogue::default())).await.unwrap();
    let document = service.get("/openapi.json").await.unwrap().json();
    let named = |path: &str, method: &str, status: &str, header: &str| {
        document["paths"][path][method]["responses"][status]["headers"][header].is_object()
    };
    assert!(named("/items/{id}", "get", "503", "Retry-After") && named("/items", "post", "201", "Location"));
    assert_eq!(service.get("/items/503").await.unwrap().header("retry-after"), "2");
    assert_eq!(service.post("/items", json!(item("cup")).to_string()).await.unwrap().header("location"), "/items/7");
}
