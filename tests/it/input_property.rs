//! Generated requests at a service with every kind of argument: whatever comes, the answer is a success or a 4xx problem
//! that names its place, and what fits is served.
//!
//! The requests are the same in every run. `INPUT_SEED=7 INPUT_CASES=100000 cargo test … input_property` looks further.

use std::sync::Arc;

use chassis::testing::TestService;
use proptest::{
    collection::vec,
    option,
    prelude::{Just, Strategy, any, prop, prop_oneof},
    sample::select,
    strategy::Union,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{
    input_service::start,
    support::raw::{Answer, Raw},
};

const CASES: u32 = 1_500;

#[derive(Debug, Clone)]
struct Ask {
    method: &'static str,
    target: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Ask {
    fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", self.body.len()));
        [head.as_bytes(), &self.body].concat()
    }
}

const METHODS: [&str; 8] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "BREW"];
const HEADS: [&str; 18] = [
    "ints", "texts", "colors", "skus", "options", "floats", "files", "filter", "range", "map", "extract", "orders",
    "payments", "either", "counts", "any", "checked", "nowhere",
];
const NAMES: [&str; 26] = [
    "limit",
    "name",
    "ids",
    "color",
    "exact",
    "sku",
    "from",
    "to",
    "customer",
    "items",
    "payment",
    "notes",
    "delivery",
    "area",
    "count",
    "cash",
    "card",
    "points",
    "number",
    "kind",
    "street",
    "weight",
    "firstName",
    "itemCount",
    "innerParts",
    "partName",
];
const WORDS: [&str; 12] =
    ["", "7", "-1", "300", "1e999", "NaN", "true", "red", "dark_blue", "sku-1", "99999999999999999999999", "pickup"];

/// Every byte that may stand in a target, and percent signs with and without sense.
fn odd_text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(&WORDS[..]).prop_map(str::to_owned),
        1 => "([A-Za-z0-9._~!$'()*,;:@-]|\\+|%[0-9A-Fa-f]{2}|%2F|%|%z){0,12}",
        1 => "[a-z]{200,2000}",
    ]
}

fn target() -> impl Strategy<Value = String> {
    let path = (select(&HEADS[..]), vec(odd_text(), 0..4), any::<bool>()).prop_map(|(head, rest, slash)| {
        format!(
            "/{head}{}{}",
            rest.iter().fold(String::new(), |path, part| path + "/" + part),
            if slash && !rest.is_empty() { "/" } else { "" }
        )
    });
    let query = vec((prop_oneof![9 => select(&NAMES[..]).prop_map(str::to_owned), 1 => odd_text()], odd_text()), 0..6)
        .prop_map(|pairs| pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&"));
    (path, option::of(query)).prop_map(|(path, query)| match query {
        Some(query) => format!("{path}?{query}"),
        None => path,
    })
}

/// JSON as text, so that numbers and names may be what no value can hold.
fn json_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        select(
            &[
                "null",
                "true",
                "0",
                "-0",
                "1.5",
                "-129",
                "70000",
                "1e999",
                "123456789012345678901234567890",
                "[]",
                "{}",
                "\"\\ud800\"",
                "\"\\u0000\"",
                "\"red\"",
                "\"cash\"",
                "\"sku-1\"",
                "\"pickup\"",
                "NaN",
                "'a'"
            ][..]
        )
        .prop_map(str::to_owned),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<String>().prop_map(|text| json!(text).to_string()),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(|items| format!("[{}]", items.join(","))),
            vec((prop_oneof![9 => select(&NAMES[..]).prop_map(str::to_owned), 1 => any::<String>()], inner), 0..7)
                .prop_map(|members| {
                    let members: Vec<_> =
                        members.iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
                    format!("{{{}}}", members.join(","))
                }),
        ]
    })
}

/// A body that fits its route, then with a few bytes changed.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    (select(fitting()), vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 0..4)).prop_map(|(ask, changes)| {
        let mut body = ask.body;
        for (at, byte, how) in changes {
            if body.is_empty() {
                break;
            }
            let at = at.index(body.len());
            match how {
                0 => body[at] = byte,
                1 => body.insert(at, byte),
                _ => {
                    body.remove(at);
                }
            }
        }
        body
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        1 => Just(Vec::new()),
        6 => json_text().prop_map(String::into_bytes),
        4 => mutated(),
        1 => vec(any::<u8>(), 0..200),
        1 => (1..3000usize, select(&["[", "{\"items\":", "[{\"a\":"][..])).prop_map(|(depth, open)| open.repeat(depth).into_bytes()),
        1 => (1..400usize).prop_map(|digits| "9".repeat(digits).into_bytes()),
    ]
}

fn headers() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let kind = prop_oneof![
        8 => Just("application/json".to_owned()),
        1 => select(&["text/plain", "", ";", "application/json; charset=utf-16", "application/x+json; a", "a/b/c"][..]).prop_map(str::to_owned),
        1 => "[ -~]{0,30}",
    ];
    let coding = option::weighted(0.05, select(&["gzip", "identity", ""][..]).prop_map(str::to_owned));
    (option::weighted(0.95, kind), coding).prop_map(|(kind, coding)| {
        let kind = kind.map(|kind| ("content-type", kind));
        kind.into_iter().chain(coding.map(|coding| ("content-encoding", coding))).collect()
    })
}

fn asks() -> impl Strategy<Value = Ask> {
    let any_route = (select(&METHODS[..]), target());
    let known_route = select(fitting()).prop_map(|ask| (ask.method, ask.target));
    (Union::new_weighted(vec![(1, any_route.boxed()), (1, known_route.boxed())]), headers(), body())
        .prop_map(|((method, target), headers, body)| Ask { method, target, headers, body })
}

/// One request for each route that fits it, and what it is answered.
fn fitting() -> Vec<Ask> {
    let order = json!({
        "customer": "a", "items": [{ "sku": "sku-1", "count": 2 }], "payment": { "card": { "number": "1" } },
        "notes": { "7": "x" }, "delivery": { "kind": "parcel", "street": "s", "weight": 3 }, "area": [1.5, 2.0],
    })
    .to_string();
    let ask = |method, target: &str, body: &str| Ask {
        method,
        target: target.to_owned(),
        headers: vec![("content-type", "application/json".to_owned())],
        body: body.as_bytes().to_vec(),
    };
    vec![
        ask("GET", "/ints/255", ""),
        ask("GET", "/texts/a%2Fb", ""),
        ask("GET", "/colors/dark_blue", ""),
        ask("GET", "/skus/sku-1", ""),
        ask("GET", "/options/7", ""),
        ask("GET", "/floats/-1.5e3/and/false", ""),
        ask("HEAD", "/files/a/b", ""),
        ask("GET", "/filter?limit=1&name=a&ids=1&ids=2&color=red&exact=true&sku=sku-2", ""),
        ask("GET", "/range?to=1.5&from=-3", ""),
        ask("DELETE", "/range", ""),
        ask("GET", "/map?a=1&a=2", ""),
        ask("GET", "/extract/7?limit=", ""),
        ask("POST", "/orders", &order),
        ask("PUT", "/orders/7", &order),
        ask("PUT", "/orders/7", ""),
        ask("POST", "/payments", r#"{"points":-128}"#),
        ask("POST", "/payments", r#""cash""#),
        ask("POST", "/either", "7"),
        ask("POST", "/counts", r#"{"a":[1,2]}"#),
        ask("POST", "/any", r#"{"a":[null,1.5,"é"]}"#),
        ask("PATCH", "/checked", r#"{"firstName":"a","itemCount":10,"innerParts":[{"partName":"a"}]}"#),
        ask("GET", "/checked?limit=100&tags=ab", ""),
        ask("GET", "/checked/abcd", ""),
    ]
}

async fn answer(service: &TestService, ask: &Ask) -> Option<Answer> {
    let mut raw = Raw::connect(service.http()).await;
    raw.send(ask.bytes()).await;
    raw.answer_to(ask.method != "HEAD").await
}

/// Whether the place is in the body, or its parent is: a missing field has a parent alone.
fn is_in(pointer: &str, body: &Value) -> bool {
    let parent = pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
    body.pointer(pointer).is_some() || body.pointer(parent).is_some()
}

/// What is promised of every answer.
fn check(ask: &Ask, answer: &Answer) -> Result<(), TestCaseError> {
    let fail = |why: &str| {
        Err(TestCaseError::fail(format!("{why}: {} {}", answer.status, String::from_utf8_lossy(&answer.body))))
    };
    if answer.status < 300 {
        return Ok(());
    }
    if !(400..500).contains(&answer.status) {
        return fail("neither a success nor the caller's mistake");
    }
    if answer.header("content-type") != "application/problem+json" {
        return fail("not a problem");
    }
    if ask.method == "HEAD" {
        return Ok(());
    }
    let problem = answer.json();
    if problem["code"].as_str().is_none_or(str::is_empty) || problem["status"] != answer.status {
        return fail("no code, or another status");
    }
    if problem["trace_id"] != answer.header("x-trace-id") || answer.header("x-trace-id").len() != 32 {
        return fail("not the trace of the answer");
    }
    let violations = problem["violations"].as_array().cloned().unwrap_or_default();
    let body: Option<Value> = serde_json::from_slice(&ask.body).ok();
    match answer.status {
        422 if violations.is_empty() => return fail("no place in the body"),
        // GET and DELETE read no body, so it was the path or the query.
        400 if violations.is_empty() && matches!(ask.method, "GET" | "DELETE") => return fail("no parameter"),
        _ => {}
    }
    for violation in &violations {
        let named = match (violation["pointer"].as_str(), violation["parameter"].as_str()) {
            (Some(pointer), None) => body.as_ref().is_none_or(|body| is_in(pointer, body)),
            // `?=7` has a parameter without a name.
            (None, Some(parameter)) => !parameter.is_empty() || ask.target.contains('='),
            _ => false,
        };
        if !named || violation["message"].as_str().is_none_or(|message| message.is_empty() || message.len() > 500) {
            return fail("a violation without a place or a message");
        }
    }
    Ok(())
}

fn setting(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn whatever_is_asked_is_served_or_told_what_is_wrong() {
    let runtime = Runtime::new().unwrap();
    let service = Arc::new(runtime.block_on(start()));
    let seed = setting("INPUT_SEED", 1);
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: setting("INPUT_CASES", CASES),
        failure_persistence: None,
        max_shrink_iters: 500,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let outcome = runner.run(&asks(), |ask| {
        let Some(answer) = runtime.block_on(answer(&service, &ask)) else {
            return Err(TestCaseError::fail("no answer"));
        };
        check(&ask, &answer)
    });
    if let Err(TestError::Fail(why, ask)) = &outcome {
        panic!("INPUT_SEED={seed}: {why}\n{}\n{ask:?}", String::from_utf8_lossy(&ask.bytes()));
    }
    outcome.unwrap();
    // Nothing broke on the way, and the service still serves.
    let metrics = runtime.block_on(service.metrics()).unwrap();
    assert!(!metrics.contains("chassis_panics_total{") || metrics.contains("chassis_panics_total 0"), "{metrics}");
}

#[test]
fn what_fits_is_served() {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let service = start().await;
        for ask in fitting() {
            let answer = answer(&service, &ask).await.unwrap();
            assert!((200..300).contains(&answer.status), "{ask:?}: {answer:?}");
            if answer.status == 201 {
                assert_eq!(answer.json(), serde_json::from_slice::<Value>(&ask.body).unwrap());
            }
        }
    });
}
