//! Handlers made by `#[service]`, called through a plain axum router.

use axum::{body::Body, extract::Query, response::Response};
use http::Method;
use http::{HeaderMap, Request, StatusCode, header, request::Builder};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json as value};
use std::{sync::Arc, time::Duration};
use tower_service::Service as _;

use axum::Router;
use chassis::{
    cause::ErrorType,
    problem::Problem,
    service::{
        Accepted, AnswerKind, Arguments, Content, Created, IntoRoutes, NoContent, Raw, Rejection, Reply, RoutePolicy,
        Service, Source, json, service,
    },
};

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct OrderId(u64);

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    id: OrderId,
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    sku: String,
    count: u32,
}

#[derive(Debug, Deserialize)]
struct Page {
    limit: Option<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Color {
    Red,
    Green,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Sku(String);

impl TryFrom<String> for Sku {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.starts_with("sku-") { Ok(Self(text)) } else { Err("expected a text that starts with sku-") }
    }
}

#[derive(Debug, thiserror::Error, Problem, Serialize)]
enum ShopError {
    #[error("there is no order {}", .0.0)]
    #[problem(not_found, code = "order_unknown")]
    Unknown(OrderId),
}

/// An alias hides the `Result` from a macro that looks at names.
type Shopped<T> = Result<T, ShopError>;

struct Text(&'static str);

impl Reply for Text {
    type Body = ();

    fn reply(self) -> Response {
        Raw(self.0).reply()
    }
}

struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("the inside of it"))
    }
}

struct Shop {
    greeting: &'static str,
}

#[service]
impl Shop {
    const LAST: u64 = 100;

    /// Look one order up.
    ///
    /// Says more here.
    #[get("/orders/{id}", timeout = "2s")]
    async fn order(&self, id: OrderId) -> Shopped<Order> {
        if id.0 <= Self::LAST { Ok(Self::made(id)) } else { Err(ShopError::Unknown(id)) }
    }

    fn made(id: OrderId) -> Order {
        Order { id, items: Vec::new() }
    }

    #[post("/orders")]
    async fn place(&self, order: Order) -> Result<Created<Order>, ShopError> {
        let location = format!("/orders/{}", order.id.0);
        Ok(Created::new(order).at(location))
    }

    #[put("/orders/{id}/items/{sku}")]
    async fn replace(&self, item: Item, sku: String, id: u16) -> (u16, String, Item) {
        (id, sku, item)
    }

    #[get("/orders")]
    async fn search(&self, Page { limit }: Page) -> Option<u8> {
        limit
    }

    #[delete("/orders/{id}")]
    async fn cancel(&self, id: u64) {
        let _ = id;
    }

    #[patch("/orders/{id}")]
    async fn touch(&self, id: u64, order: Order) -> Accepted<u64> {
        Accepted(id + order.id.0)
    }

    #[get("/headers")]
    async fn headers(
        &self,
        #[extract] headers: HeaderMap,
        #[extract] mut page: Query<Page>,
    ) -> impl axum::response::IntoResponse + use<> {
        let seen = headers.get("x-seen").cloned();
        (StatusCode::IM_A_TEAPOT, format!("{seen:?} {:?}", page.0.limit.take()))
    }

    #[get("/text/{color}")]
    async fn color(&self, color: Color) -> Color {
        color
    }

    #[get("/sku/{sku}")]
    async fn sku(&self, sku: Sku) -> String {
        sku.0
    }

    #[get("/own")]
    async fn own(&self) -> Result<Text, Problem> {
        Ok(Text(self.greeting))
    }

    #[get("/borrowed")]
    async fn borrowed(&self) -> &str {
        self.greeting
    }

    #[get("/response")]
    async fn response(&self) -> Result<Response, std::convert::Infallible> {
        Ok(Response::new(Body::from("as it is")))
    }

    #[get("/unwritable")]
    async fn unwritable(&self) -> Unwritable {
        Unwritable
    }

    #[get("/nothing")]
    async fn nothing(&self) -> NoContent {
        NoContent
    }

    #[get("/files/{*rest}")]
    async fn file(&self, rest: String) -> String {
        rest
    }
}

async fn send(request: Request<Body>) -> Response {
    let mut router = Arc::new(Shop { greeting: "hello" }).into_router();
    match router.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

async fn text(response: Response) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body in memory");
    String::from_utf8(bytes.to_vec()).expect("text")
}

async fn body(response: Response) -> Value {
    serde_json::from_str(&text(response).await).expect("JSON")
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).expect("a request")
}

fn with_json(builder: Builder, body: impl Into<Body>) -> Request<Body> {
    builder.header("content-type", "application/json").body(body.into()).expect("a request")
}

/// Sends, and expects a problem of the chassis with this status; the detail and the violations come back.
async fn refused(request: Request<Body>, status: u16, code: &'static str) -> (String, Value) {
    let response = send(request).await;
    assert_eq!(response.status().as_u16(), status);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(response.extensions().get(), Some(&ErrorType(code)));
    let mut body = body(response).await;
    assert_eq!((&body["status"], &body["code"]), (&value!(status), &value!(code)));
    (body["detail"].as_str().unwrap_or_default().to_owned(), body["violations"].take())
}

#[test]
fn routes_are_described_as_written() {
    let routes = Shop::describe();
    assert_eq!(routes.len(), 15);
    let order = &routes[0];
    assert_eq!((&order.method, &*order.path, order.handler), (&Method::GET, "/orders/{id}", "order"));
    assert_eq!(order.doc, "Look one order up.\n\nSays more here.");
    assert_eq!(order.policy, RoutePolicy::new().timeout(Duration::from_secs(2)));
    assert_eq!((order.arguments[0].source, order.arguments[0].name), (Source::Path, "id"));
    assert_eq!(order.answer.kind, AnswerKind::new(StatusCode::OK, Content::Json));
    assert_eq!((order.problems[0].status.as_u16(), order.problems[0].code), (404, "order_unknown"));
    let place = &routes[1];
    assert_eq!((place.arguments[0].source, place.arguments[0].name), (Source::Body, "order"));
    assert_eq!(place.answer.kind, AnswerKind::new(StatusCode::CREATED, Content::Json));
    assert!(place.answer.body.name().ends_with("Order"), "{:?}", place.answer);
}

#[test]
fn a_service_its_arc_and_a_plain_router_can_be_mounted() {
    assert_eq!(Shop { greeting: "" }.into_routes().infos.len(), 15);
    assert_eq!(Arc::new(Shop { greeting: "" }).into_routes().into_routes().infos.len(), 15);
    assert!(Router::new().into_routes().infos.is_empty());
}

#[tokio::test]
async fn a_handler_is_still_a_plain_function() {
    let shop = Shop { greeting: "" };
    assert_eq!(shop.order(OrderId(7)).await.expect("an order").id, OrderId(7));
}

#[tokio::test]
async fn a_value_is_answered_as_json() {
    let response = send(get("/orders/7")).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(text(response).await, r#"{"id":7,"items":[]}"#);
}

#[tokio::test]
async fn an_error_is_answered_as_its_problem_even_behind_an_alias() {
    let (detail, _) = refused(get("/orders/101"), 404, "order_unknown").await;
    assert_eq!(detail, "there is no order 101");
}

#[tokio::test]
async fn a_new_thing_is_answered_with_its_address() {
    let response = send(with_json(Request::post("/orders"), r#"{"id":8}"#)).await;
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()[header::LOCATION], "/orders/8");
    assert_eq!(text(response).await, r#"{"id":8,"items":[]}"#);
}

#[tokio::test]
async fn an_address_that_is_no_header_does_not_hide_the_new_thing() {
    let response = Created::new(1).at("/a\nb").reply();
    assert_eq!((response.status().as_u16(), response.headers().get(header::LOCATION)), (201, None));
}

#[tokio::test]
async fn arguments_are_taken_by_name_whatever_their_order() {
    let request = with_json(Request::put("/orders/7/items/a%20b%2Fc"), r#"{"sku":"s","count":1}"#);
    assert_eq!(text(send(request).await).await, r#"[7,"a b/c",{"sku":"s","count":1}]"#);
    assert_eq!(text(send(get("/files/a/b")).await).await, r#""a/b""#);
}

#[tokio::test]
async fn every_kind_of_answer_has_its_status() {
    for (request, status, body) in [
        (Request::delete("/orders/7").body(Body::empty()).expect("a request"), 204, ""),
        (with_json(Request::patch("/orders/7"), r#"{"id":1}"#), 202, "8"),
        (get("/orders?limit=3"), 200, "3"),
        (get("/orders"), 200, "null"),
        (get("/text/green"), 200, "\"green\""),
        (get("/sku/sku-7"), 200, "\"sku-7\""),
        (get("/own"), 200, "hello"),
        (get("/borrowed"), 200, "\"hello\""),
        (get("/response"), 200, "as it is"),
        (get("/nothing"), 204, ""),
        (get("/headers?limit=4"), 418, "None Some(4)"),
    ] {
        let path = request.uri().clone();
        let response = send(request).await;
        assert_eq!((response.status().as_u16(), &*text(response).await), (status, body), "{path}");
    }
}

#[tokio::test]
async fn a_value_that_cannot_be_written_is_an_internal_problem_that_hides_why() {
    let response = send(get("/unwritable")).await;
    assert_eq!(response.status(), 500);
    let body = text(response).await;
    assert!(body.contains("\"internal\"") && !body.contains("inside"), "{body}");
}

#[tokio::test]
async fn a_path_that_does_not_fit_names_parameter_found_and_expected() {
    for (path, expected) in [
        ("/orders/abc", "path parameter \"id\": found \"abc\", expected a whole number from 0 to 18446744073709551615"),
        ("/orders/-1", "path parameter \"id\": found \"-1\", expected a whole number from 0 to 18446744073709551615"),
        ("/text/blue", "path parameter \"color\": found \"blue\", unknown variant `blue`, expected `red` or `green`"),
        ("/sku/7", "path parameter \"sku\": found \"7\", expected a text that starts with sku-"),
        ("/sku/%FF", "path parameter \"sku\": expected UTF-8 behind the percent signs"),
    ] {
        assert_eq!(refused(get(path), 400, "invalid_request").await.0, expected);
    }
}

#[tokio::test]
async fn a_query_that_does_not_fit_names_the_parameter() {
    let (detail, _) = refused(get("/orders?limit=300"), 400, "invalid_request").await;
    assert!(detail.starts_with("the query does not fit: limit: "), "{detail}");
}

#[tokio::test]
async fn an_extractors_plain_rejection_becomes_a_problem() {
    let (detail, _) = refused(get("/headers?limit=x"), 400, "invalid_request").await;
    assert!(detail.contains("limit"), "{detail}");
}

#[tokio::test]
async fn a_body_must_say_that_it_is_json() {
    let post = |content_type: Option<&str>| {
        let mut builder = Request::post("/orders");
        if let Some(content_type) = content_type {
            builder = builder.header("content-type", content_type);
        }
        builder.body(Body::from(r#"{"id":1}"#)).expect("a request")
    };
    for content_type in [None, Some("text/plain"), Some("application/jsonx"), Some("json"), Some("text/json")] {
        let (detail, _) = refused(post(content_type), 415, "invalid_request").await;
        assert!(detail.ends_with("expected application/json"), "{detail}");
    }
    for content_type in ["application/json; charset=utf-8", "Application/JSON", "application/vnd.shop+json"] {
        assert_eq!(send(post(Some(content_type))).await.status(), 201, "{content_type}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_json_is_a_400_with_its_place() {
    for (body, expected) in [
        ("", "the body is empty, expected JSON"),
        ("{\"id\":\n  x}", "the body is not JSON: expected value at line 2 column 3"),
        ("{\"id\":1", "the body is not JSON: EOF while parsing an object at line 1 column 7"),
        ("{\"id\":1} x", "the body is not JSON: trailing characters at line 1 column 10"),
        (
            "{\"id\":1,\"items\":\"\u{1}\"}",
            "the body is not JSON: control character (\\u0000-\\u001F) found while parsing a string at line 1 column 18",
        ),
    ] {
        assert_eq!(refused(with_json(Request::post("/orders"), body), 400, "invalid_request").await.0, expected);
    }
    let deep = format!("{{\"id\":1,\"x\":{}", "[".repeat(100_000));
    refused(with_json(Request::post("/orders"), deep), 400, "invalid_request").await;
    refused(with_json(Request::post("/orders"), &b"{\"id\":\"\xff\"}"[..]), 400, "invalid_request").await;
}

#[tokio::test]
async fn json_that_does_not_fit_is_a_422_with_a_pointer() {
    for (body, pointer, message) in [
        (r#"{"id":"7"}"#, "/id", "invalid type: string \"7\", expected u64"),
        (r#"{}"#, "/id", "missing field `id`"),
        (r#"7"#, "", "invalid type: integer `7`, expected struct Order"),
        (r#"{"id":1,"id":2}"#, "/id", "duplicate field `id`"),
        (
            r#"{"id":1,"items":[{"sku":"a","count":1},{"sku":"b","count":-1}]}"#,
            "/items/1/count",
            "invalid value: integer `-1`, expected u32",
        ),
        (r#"{"id":1,"items":[{"count":1}]}"#, "/items/0/sku", "missing field `sku`"),
        (
            r#"{"id":1,"items":[{"sku":"a","count":1,"a/b":1}]}"#,
            "/items/0/a~1b",
            "unknown field `a/b`, expected `sku` or `count`",
        ),
    ] {
        let (detail, violations) = refused(with_json(Request::post("/orders"), body), 422, "invalid_request").await;
        assert!(detail.starts_with("the body does not fit: ") && detail.contains(" at line 1 column "), "{detail}");
        assert_eq!(violations, value!([{ "pointer": pointer, "message": message }]), "{body}");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_413() {
    let large = format!("{{\"id\":1,\"x\":\"{}\"}}", "x".repeat(100));
    let limited = Body::new(http_body_util::Limited::new(Body::from(large), 50));
    refused(with_json(Request::post("/orders"), limited), 413, "payload_too_large").await;
    // Without a limit of the chassis in front, axum's own of 2 MB holds.
    refused(with_json(Request::post("/orders"), "x".repeat(3_000_000)), 413, "payload_too_large").await;
}

#[tokio::test]
async fn a_body_that_breaks_off_is_a_400() {
    struct BreaksOff(bool);
    impl http_body::Body for BreaksOff {
        type Data = axum::body::Bytes;
        type Error = std::io::Error;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
            let frame = if std::mem::replace(&mut self.0, true) {
                Err(std::io::ErrorKind::ConnectionReset.into())
            } else {
                Ok(http_body::Frame::data("{\"id\"".into()))
            };
            std::task::Poll::Ready(Some(frame))
        }
    }
    let request = with_json(Request::post("/orders"), Body::new(BreaksOff(false)));
    assert_eq!(refused(request, 400, "invalid_request").await.0, "the body did not arrive whole");
}

#[tokio::test]
async fn a_service_can_be_nested_under_a_path_with_a_parameter() {
    let shop = Arc::new(Shop { greeting: "" }).into_router();
    let mut router = Router::new().nest("/tenants/{tenant}", shop);
    let response = router.call(get("/tenants/t1/orders/7")).await.expect("a router never fails");
    assert_eq!(text(response).await, r#"{"id":7,"items":[]}"#);
}

#[tokio::test]
async fn a_router_that_forgot_a_parameter_is_an_internal_problem() {
    async fn handler(arguments: Arguments) -> Result<Response, Rejection> {
        let id: u64 = arguments.path("id")?;
        Ok(json(StatusCode::OK, &id))
    }
    let mut router: Router = Router::new().route("/", axum::routing::get(handler));
    let response = router.call(get("/")).await.expect("a router never fails");
    assert_eq!(response.status(), 500);
}
