use std::{cell::Cell, collections::BTreeMap};

use axum::response::IntoResponse;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;

async fn told(rejection: Rejection) -> (StatusCode, Value) {
    let response = rejection.into_response();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body in memory");
    (status, serde_json::from_slice(&body).expect("a problem is JSON"))
}

/// The violations of a query that does not fit.
async fn wrong<T: for<'de> Deserialize<'de> + std::fmt::Debug>(query: &str) -> Value {
    let (status, problem) = told(query::read::<T>(query).expect_err(query)).await;
    assert_eq!(status, 400, "{problem}");
    problem["violations"].clone()
}

fn right<T: for<'de> Deserialize<'de>>(query: &str) -> T {
    query::read(query).unwrap_or_else(|rejection| panic!("{query}: {rejection:?}"))
}

#[derive(Debug, PartialEq, Deserialize)]
struct Filter {
    limit: Option<u8>,
    name: Option<String>,
    #[serde(default)]
    ids: Vec<u32>,
    color: Option<Color>,
    #[serde(default)]
    exact: bool,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Color {
    Red,
    DarkBlue,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Strict {
    from: i64,
    to: i64,
    #[serde(alias = "sort")]
    order: Option<String>,
}

const NONE: Filter = Filter { limit: None, name: None, ids: Vec::new(), color: None, exact: false };

#[test]
fn a_query_is_read_as_forms_write_it() {
    assert_eq!(right::<Filter>(""), NONE);
    assert_eq!(
        right::<Filter>("exact=true&name=a+b%2Bc&ids=3&limit=7&ids=1&color=dark_blue&other=1&other=2&&"),
        Filter {
            limit: Some(7),
            name: Some("a b+c".into()),
            ids: vec![3, 1],
            color: Some(Color::DarkBlue),
            exact: true
        }
    );
    assert_eq!(
        right::<Filter>("n%61me=%E2%82%AC=%zz&ids=5"),
        Filter { name: Some("€=%zz".into()), ids: vec![5], ..NONE }
    );
    assert_eq!(right::<Option<Strict>>(""), None);
    assert_eq!(right::<Option<Strict>>("from=1&to=+2".replace('+', "%2B").as_str()).map(|strict| strict.to), Some(2));
    let map: BTreeMap<String, Vec<String>> = right("b=1&a=2&b=3&c");
    assert_eq!(
        map,
        BTreeMap::from([
            ("a".into(), vec!["2".into()]),
            ("b".into(), vec!["1".into(), "3".into()]),
            ("c".into(), vec!["".into()])
        ])
    );
    let pairs: Vec<(String, u8)> = right("b=1&a=2&b=3");
    assert_eq!(pairs, [("b".into(), 1), ("a".into(), 2), ("b".into(), 3)]);
    right::<()>("anything=1");
}

#[test]
fn an_empty_value_is_none_where_the_type_cannot_be_empty() {
    assert_eq!(right::<Filter>("limit=&color&name="), Filter { name: Some(String::new()), ..NONE });
    let list: BTreeMap<String, Vec<Option<u32>>> = right("a=&a=1&a=&b=2&b=");
    assert_eq!((&*list["a"], &*list["b"]), (&[None, Some(1), None][..], &[Some(2), None][..]));
    let texts: BTreeMap<String, Option<String>> = right(&(0..100).map(|n| format!("{n}=&")).collect::<String>());
    assert!(texts.values().all(|text| text.as_deref() == Some("")));
}

#[test]
fn many_empty_values_are_not_read_once_more_each() {
    thread_local!(static READ: Cell<usize> = const { Cell::new(0) });

    #[derive(Debug)]
    struct Counted;

    impl<'de> Deserialize<'de> for Counted {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            READ.set(READ.get() + 1);
            u32::deserialize(deserializer).map(|_| Self)
        }
    }

    let many: String = (0..1000).map(|n| format!("{n}=&")).collect();
    assert!(right::<BTreeMap<String, Option<Counted>>>(&many).values().all(Option::is_none));
    assert!(READ.get() < 50, "{}", READ.get());
}

#[tokio::test]
async fn every_mistake_of_a_query_names_its_parameter() {
    let one = |name: &str, message: &str| json!([{ "parameter": name, "message": message }]);
    for (query, violations) in [
        ("limit=300", one("limit", "found \"300\", expected a whole number from 0 to 255")),
        ("limit=1&limit=2", one("limit", "is given 2 times, expected one value")),
        ("limit=&limit=2", one("limit", "is given 2 times, expected one value")),
        ("color=green", one("color", "found \"green\", unknown variant `green`, expected `red` or `dark_blue`")),
        ("ids=1&ids=x", one("ids", "found \"x\", expected a whole number from 0 to 4294967295")),
        ("ids=", one("ids", "found \"\", expected a whole number from 0 to 4294967295")),
        ("exact=", one("exact", "found \"\", expected true or false")),
        ("name=%ff", one("name", "expected UTF-8 behind the percent signs")),
        ("=%ff", one("", "expected UTF-8 behind the percent signs")),
        ("n%FFme=1", one("n\u{fffd}me", "expected UTF-8 behind the percent signs")),
    ] {
        assert_eq!(wrong::<Filter>(query).await, violations, "{query}");
    }
    for (query, violations) in [
        ("from=1&to=2&order=a&sort=b", one("order", "is given twice")),
        ("from=1&to=2&order=a&order=b", one("order", "is given 2 times, expected one value")),
        (
            "from=NaN&to=1",
            one("from", "found \"NaN\", expected a whole number from -9223372036854775808 to 9223372036854775807"),
        ),
    ] {
        assert_eq!(wrong::<Strict>(query).await, violations, "{query}");
    }
    assert_eq!(
        wrong::<BTreeMap<String, f64>>("a=1e999&b=inf&c=1e9").await,
        json!([
            { "parameter": "a", "message": "found \"1e999\", expected a number" },
            { "parameter": "b", "message": "found \"inf\", expected a number" },
        ])
    );
}

#[tokio::test]
async fn all_mistakes_of_a_query_are_told_at_once() {
    assert_eq!(
        wrong::<Strict>("from=x&colour=red&size=1&order=a").await,
        json!([
            { "parameter": "colour", "message": "unknown field `colour`, expected one of `from`, `to`, `order`, `sort`" },
            { "parameter": "from", "message": "found \"x\", expected a whole number from -9223372036854775808 to 9223372036854775807" },
            { "parameter": "size", "message": "unknown field `size`, expected one of `from`, `to`, `order`, `sort`" },
            { "parameter": "to", "message": "is missing" },
        ])
    );
}

#[tokio::test]
async fn a_long_query_is_read_in_order_of_its_length() {
    let many = "a&".repeat(30_000);
    assert_eq!(right::<BTreeMap<String, Vec<String>>>(&many)["a"].len(), 30_000);
    let long = format!("color={}", "é".repeat(30_000));
    let message = wrong::<Filter>(&long).await[0]["message"].as_str().expect("a text").to_owned();
    assert!(message.len() < 500 && message.ends_with("expected `red` or `dark_blue`"), "{message}");
}

async fn body<T: for<'de> Deserialize<'de>>(content_type: Option<&str>, body: &[u8]) -> Result<T, Rejection> {
    let mut request = Request::post("/");
    if let Some(content_type) = content_type {
        request = request.header("content-type", content_type);
    }
    let request = request.body(Body::from(body.to_vec())).expect("a request");
    let Ok(arguments) = Arguments::from_request(request, &()).await;
    arguments.json().await
}

#[derive(Debug, PartialEq, Deserialize)]
struct Order {
    id: u8,
    lines: Vec<Line>,
    #[serde(default)]
    payment: Option<Payment>,
    #[serde(default)]
    counts: BTreeMap<u32, f32>,
    #[serde(default)]
    sku: Option<Sku>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    count: u32,
    at: (i8, i8),
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Payment {
    Cash,
    Card { number: String },
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(try_from = "String")]
struct Sku(String);

impl TryFrom<String> for Sku {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        if text.starts_with("sku-") { Ok(Self(text)) } else { Err("expected a text that starts with sku-") }
    }
}

async fn wrong_body(json: &str) -> Vec<(String, String)> {
    let rejection = body::<Order>(Some("application/json"), json.as_bytes()).await.expect_err(json);
    let (status, problem) = told(rejection).await;
    assert_eq!(status, 422, "{json}: {problem}");
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{problem}")).to_owned();
    let violations = problem["violations"].as_array().unwrap_or_else(|| panic!("{problem}"));
    violations.iter().map(|violation| (text(&violation["pointer"]), text(&violation["message"]))).collect()
}

#[tokio::test]
async fn every_mistake_of_a_body_has_its_pointer() {
    for (json, pointer, message) in [
        (r#"{"id":300,"lines":[]}"#, "/id", "invalid value: integer `300`, expected u8"),
        (r#"{"id":1e999,"lines":[]}"#, "/id", "number out of range"),
        (r#"{"id":1.5,"lines":[]}"#, "/id", "invalid type: floating point `1.5`, expected u8"),
        (r#"{"id":null,"lines":[]}"#, "/id", "invalid type: null, expected u8"),
        (r#"{"lines":[]}"#, "/id", "missing field `id`"),
        (r#"{"id":1,"lines":[],"id":2}"#, "/id", "duplicate field `id`"),
        (
            r#"{"id":1,"lines":[{"count":1,"at":[1,2]},{"count":1,"at":[1]}]}"#,
            "/lines/1/at",
            "invalid length 1, expected a tuple of size 2",
        ),
        (
            r#"{"id":1,"lines":[{"count":1,"at":[1,200]}]}"#,
            "/lines/0/at/1",
            "invalid value: integer `200`, expected i8",
        ),
        (r#"{"id":1,"lines":[],"payment":"gold"}"#, "/payment", "unknown variant `gold`, expected `cash` or `card`"),
        (
            r#"{"id":1,"lines":[],"payment":{"card":{"number":7}}}"#,
            "/payment/card/number",
            "invalid type: integer `7`, expected a string",
        ),
        (r#"{"id":1,"lines":[],"payment":{"card":{}}}"#, "/payment/card/number", "missing field `number`"),
        (r#"{"id":1,"lines":[],"counts":{"7":"x"}}"#, "/counts/7", "invalid type: string \"x\", expected f32"),
        (r#"{"id":1,"lines":[],"sku":"x"}"#, "/sku", "expected a text that starts with sku-"),
        (r#"{"id":1,"lines":[],"payment":7}"#, "/payment", "expected a variant: a text, or an object with one member"),
        (r#"{"id":1,"lines":[[1,[1,2]]]}"#, "/lines/0", "invalid type: sequence, expected an object"),
        (
            r#"{"id":1,"lines":[],"payment":{"card":["7"]}}"#,
            "/payment/card",
            "invalid type: sequence, expected an object",
        ),
        (r#"[1,[]]"#, "", "invalid type: sequence, expected an object"),
        ("7", "", "invalid type: integer `7`, expected struct Order"),
    ] {
        assert_eq!(wrong_body(json).await, [(pointer.to_owned(), message.to_owned())], "{json}");
    }
    let with_a_whole_number = r#"{"id":1.0,"lines":[[1,[1,2]]]}"#;
    assert_eq!(wrong_body(with_a_whole_number).await.last().map(|(pointer, _)| &**pointer), Some("/lines/0"));
}

#[tokio::test]
async fn all_mistakes_of_a_body_are_told_at_once() {
    let json = r#"{"lines":[{"count":-1,"at":[1,"x"],"a/b":1},{},[1,[1,2]]],"payment":"gold","counts":{"1":true},"sku":"x","id":"7"}"#;
    let places: Vec<_> = wrong_body(json).await.into_iter().map(|(pointer, _)| pointer).collect();
    assert_eq!(
        places,
        [
            "/lines/0/count",
            "/lines/0/at/1",
            "/lines/0/a~1b",
            "/lines/1/count",
            "/lines/1/at",
            "/lines/2",
            "/payment",
            "/counts/1",
            "/sku",
            "/id",
        ]
    );
}

#[tokio::test]
async fn where_no_stand_in_fits_the_mistakes_so_far_are_told() {
    let rejection = body::<(u8, Sku, u8)>(Some("application/json"), br#"["a","b","c"]"#).await.expect_err("no list");
    let (_, problem) = told(rejection).await;
    let places: Vec<_> = problem["violations"].as_array().expect("a list").iter().map(|one| &one["pointer"]).collect();
    assert_eq!(places, ["/0", "/1"]);
}

#[tokio::test]
async fn mistakes_are_told_up_to_a_number_and_in_bodies_up_to_a_size() {
    let many = |items: usize, pad: usize| {
        let items = vec![r#"{"count":"x","at":[0,0]}"#; items].join(",");
        format!(r#"{{"id":1,"lines":[{items}],"pad":"{}"}}"#, "x".repeat(pad))
    };
    assert_eq!(wrong_body(&many(50, 0)).await.len(), 20);
    assert_eq!(wrong_body(&many(50, 100_000)).await.len(), 1);
}

#[tokio::test]
async fn a_body_that_may_be_absent_is_none_when_it_is_empty_or_null() {
    let json = Some("application/json");
    assert_eq!(body::<Option<Order>>(json, b"").await.expect("none"), None);
    assert_eq!(body::<Option<Order>>(None, b"").await.expect("none"), None);
    assert_eq!(body::<Option<Order>>(json, b" null ").await.expect("none"), None);
    assert_eq!(body::<Option<u8>>(json, b"7").await.expect("some"), Some(7));
    for (content_type, bytes, status) in
        [(None, &b""[..], 400), (json, b"", 400), (None, b"{}", 415), (Some("text/plain"), b"", 415)]
    {
        assert_eq!(told(body::<Order>(content_type, bytes).await.expect_err("no order")).await.0, status);
    }
    assert_eq!(told(body::<Value>(json, b"").await.expect_err("no value")).await.0, 400);
}

#[tokio::test]
async fn a_body_is_json_and_not_compressed() {
    for (content_type, status) in [
        ("application/json", 200),
        ("application/json;charset=UTF-8", 200),
        ("application/json; Charset=\"utf-8\"; v=1", 200),
        ("application/merge-patch+json", 200),
        ("application/json; charset=utf8", 200),
        ("application/vnd.shop+json; charset=utf8", 200),
        ("application/json; charset=latin1", 200),
        ("application/x-www-form-urlencoded", 415),
        ("application", 415),
        ("", 415),
    ] {
        let found = match body::<Value>(Some(content_type), b"1").await {
            Ok(_) => StatusCode::OK,
            Err(rejection) => {
                let response = rejection.into_response();
                assert_eq!(response.headers()["accept"], "application/json");
                response.status()
            }
        };
        assert_eq!(found, status, "{content_type}");
    }
    for (coding, status) in [("identity", 200), ("gzip", 415), ("identity, br", 415), ("", 415)] {
        let request = Request::post("/").header("content-type", "application/json").header("content-encoding", coding);
        let Ok(arguments) = Arguments::from_request(request.body(Body::from("1")).expect("a request"), &()).await;
        let found = match arguments.json::<u8>().await {
            Ok(_) => StatusCode::OK,
            Err(rejection) => {
                let response = rejection.into_response();
                assert_eq!(response.headers()["accept-encoding"], "identity");
                response.status()
            }
        };
        assert_eq!(found, status, "{coding}");
    }
}

#[tokio::test]
async fn a_long_header_is_not_quoted_whole() {
    let long = "x".repeat(10_000);
    for (content_type, coding) in [(&*long, "identity"), ("application/json", &*long)] {
        let request = Request::post("/").header("content-type", content_type).header("content-encoding", coding);
        let Ok(arguments) = Arguments::from_request(request.body(Body::from("1")).expect("a request"), &()).await;
        let (status, problem) = told(arguments.json::<u8>().await.expect_err("a header is wrong")).await;
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(status == 415 && detail.contains(", expected ") && detail.len() < 500, "{problem}");
    }
}

#[tokio::test]
async fn what_is_not_json_is_a_400_that_says_where() {
    for (bytes, expected) in [
        (&b"\xef\xbb\xbf{}"[..], "the body begins with a byte order mark, expected JSON without one"),
        (b"{\"x\":\"\xff\"}", "the body is not JSON: invalid utf-8 sequence of 1 bytes from index 6"),
        (b"NaN", "the body is not JSON: expected value at line 1 column 1"),
        (b"{\"id\":NaN}", "the body is not JSON: expected value at line 1 column 7"),
        (b"{} {}", "the body is not JSON: trailing characters at line 1 column 4"),
        (b"\"\\ud800\"", "the body is not JSON: unexpected end of hex escape at line 1 column 8"),
        (b" ", "the body is not JSON: EOF while parsing a value at line 1 column 1"),
    ] {
        let (status, problem) = told(body::<Value>(Some("application/json"), bytes).await.expect_err("no JSON")).await;
        assert_eq!((status.as_u16(), problem["detail"].as_str()), (400, Some(expected)));
    }
    let deep = "[".repeat(200_000);
    let (status, problem) =
        told(body::<Value>(Some("application/json"), deep.as_bytes()).await.expect_err("deep")).await;
    assert_eq!(
        (status.as_u16(), problem["detail"].as_str()),
        (400, Some("the body is not JSON: recursion limit exceeded at line 1 column 128"))
    );
}

#[tokio::test]
async fn a_name_given_twice_is_the_last_one_in_a_map() {
    let map: BTreeMap<String, u8> = body(Some("application/json"), br#"{"a":1,"a":2}"#).await.expect("a map");
    assert_eq!(map["a"], 2);
}

#[tokio::test]
async fn an_extractors_rejection_keeps_its_headers_as_a_problem() {
    for (status, text, code) in
        [(401, "who are you?", "unauthenticated"), (429, "", "rate_limited"), (405, "", "invalid_request")]
    {
        let response = http::Response::builder()
            .status(u16::try_from(status).expect("a status"))
            .header("content-type", "text/plain; charset=utf-8")
            .header("content-length", text.len())
            .header("www-authenticate", "Basic")
            .header("www-authenticate", "Bearer")
            .header("retry-after", "7");
        let response = Rejection::adopt(response.body(Body::from(text)).expect("a response")).await.into_response();
        let headers = response.headers();
        assert_eq!(headers.get_all("www-authenticate").iter().collect::<Vec<_>>(), ["Basic", "Bearer"]);
        assert_eq!(headers.get_all("retry-after").iter().collect::<Vec<_>>(), ["7"]);
        assert_eq!(headers.get_all("content-type").iter().collect::<Vec<_>>(), ["application/problem+json"]);
        assert!(!headers.contains_key("content-length"));
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body in memory");
        let problem: Value = serde_json::from_slice(&body).expect("a problem is JSON");
        assert_eq!((problem["status"].as_u64(), problem["code"].as_str()), (Some(status), Some(code)));
        assert_eq!(problem["detail"].as_str(), (!text.is_empty()).then_some(text));
    }
}

/// A type that holds itself: a stand-in for it has no end.
#[derive(Debug, Deserialize)]
#[allow(dead_code)]
enum Expression {
    Sum(Box<Expression>, Box<Expression>),
    Number(f64),
}

#[tokio::test]
async fn a_type_that_holds_itself_ends_the_search_for_further_mistakes() {
    let rejection =
        body::<(Expression, u8)>(Some("application/json"), br#"[7, "x"]"#).await.expect_err("no expression");
    assert_eq!(told(rejection).await.1["violations"][0]["pointer"], "/0");
}
