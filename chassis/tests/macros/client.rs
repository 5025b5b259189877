//! Clients made by `#[chassis::client]`, against services made by `#[service]` with the same attributes, over sockets.

use std::{collections::HashSet, convert::Infallible, future::ready, time::Duration};

use bytes::Bytes;
use chassis::{
    Chassis, RequestContext,
    client::{CallError, CallErrorKind, CallInfo, Client, Propagated, RequestBody},
    problem::{IntoProblem, Problem},
    service::{Accepted, Created, NoContent, Raw, service},
    testing::{TestService, log_lines_of},
};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use serde::{Deserialize, Serialize};
use tower_service::Service;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct OrderId(u64);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    id: OrderId,
    items: Vec<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Page {
    after: Option<u64>,
    text: String,
    color: Option<Color>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Color {
    Red,
}

#[derive(Debug, thiserror::Error, Problem)]
enum ShopError {
    #[error("there is no order {id}")]
    #[problem(not_found, code = "order_unknown")]
    Unknown {
        #[problem(public)]
        id: u64,
    },
    #[error("the store failed")]
    #[problem(unavailable, retry_after = "3s", retry_safe)]
    Store,
    #[error("no such shop")]
    #[problem(transparent)]
    Remote(#[from] CallError),
}

struct Shop;

#[service(version = "v1", path = "/shop")]
impl Shop {
    #[get("/orders/{id}", timeout = "2s")]
    async fn order(&self, id: OrderId) -> Result<Order, ShopError> {
        match id.0 {
            404 => Err(ShopError::Unknown { id: 404 }),
            503 => Err(ShopError::Store),
            _ => Ok(Order { id, items: Vec::new() }),
        }
    }

    #[get("/orders")]
    async fn search(&self, page: Page) -> Page {
        page
    }

    #[post("/orders")]
    async fn place(&self, order: Order) -> Created<Order> {
        let location = format!("/orders/{}", order.id.0);
        Created::new(order).at(location)
    }

    #[put("/orders/{id}/items/{item}")]
    async fn add(&self, id: OrderId, item: String, count: u8) -> Accepted<(OrderId, String, u8)> {
        Accepted((id, item, count))
    }

    #[patch("/orders/{id}")]
    async fn touch(&self, id: u64) {
        let _ = id;
    }

    #[delete("/orders/{id}")]
    async fn cancel(&self, id: u64) -> NoContent {
        let _ = id;
        NoContent
    }

    #[get("/colors/{color}/{flag}")]
    async fn color(&self, color: Color, flag: bool) -> (Color, bool) {
        (color, flag)
    }

    #[get("/texts/{text}")]
    async fn text(&self, text: String) -> String {
        text
    }

    #[get("/files/{*path}")]
    async fn file(&self, path: String) -> String {
        path
    }

    #[get("/perhaps/{id}")]
    async fn perhaps(&self, id: u64) -> Option<Order> {
        (id > 0).then_some(Order { id: OrderId(id), items: Vec::new() })
    }

    #[get("/plain")]
    async fn plain(&self) -> Raw<&'static str> {
        Raw("as it is")
    }

    #[get("/about")]
    async fn about(&self) -> About {
        About::now()
    }
}

/// What a service knows of the request that it serves.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    trace: String,
    span: String,
    parent: Option<String>,
    left: Option<u64>,
    peer: String,
}

impl About {
    fn now() -> Self {
        let context = RequestContext::current().expect("a request is served");
        let trace = context.trace();
        Self {
            trace: trace.trace_id.to_string(),
            span: trace.span_id.to_string(),
            parent: trace.parent_id.map(|id| id.to_string()),
            left: context.remaining().map(|left| u64::try_from(left.as_millis()).expect("a short time")),
            peer: context.peer().map(|peer| peer.to_string()).unwrap_or_default(),
        }
    }
}

#[chassis::client(version = "v1", path = "/shop")]
trait ShopApi: Send + Sync {
    /// Look one order up.
    #[get("/orders/{id}", timeout = "2s")]
    async fn order(&self, id: OrderId) -> Result<Order, CallError>;

    #[get("/orders")]
    async fn search(&self, page: &Page) -> Result<Page, CallError>;

    #[post("/orders", idempotent)]
    async fn place(&self, order: &Order) -> Result<Created<Order>, CallError>;

    #[put("/orders/{id}/items/{item}")]
    async fn add(&self, id: &OrderId, item: &str, count: u8) -> Result<Accepted<(OrderId, String, u8)>, CallError>;

    #[patch("/orders/{id}")]
    async fn touch(&self, id: u64) -> Result<(), CallError>;

    #[delete("/orders/{id}")]
    async fn cancel(&self, id: u64) -> Result<NoContent, CallError>;

    #[get("/colors/{color}/{flag}")]
    async fn color(&self, color: Color, flag: bool) -> Result<(Color, bool), CallError>;

    #[get("/texts/{text}")]
    async fn text(&self, text: &str) -> Result<String, CallError>;

    #[get("/files/{*path}")]
    async fn file(&self, path: &str) -> Result<String, CallError>;

    #[get("/perhaps/{id}")]
    async fn perhaps(&self, id: u64) -> Result<Option<Order>, CallError>;

    #[get("/plain")]
    async fn plain(&self) -> Result<Raw<String>, CallError>;

    #[get("/plain")]
    async fn response(&self) -> Result<Response<Bytes>, CallError>;

    #[get("/plain")]
    async fn streamed(&self) -> Result<Response<axum::body::Body>, CallError>;

    #[get("/orders/{id}")]
    async fn unmapped(&self, id: u64) -> Result<Order, ShopError>;

    #[get("/orders/{id}")]
    async fn whatever(&self, id: u64) -> Result<Response<Bytes>, CallError>;

    #[get("/about")]
    async fn about(&self) -> Result<About, CallError>;

    async fn items(&self, id: u64) -> Result<usize, CallError> {
        Ok(self.order(OrderId(id)).await?.items.len())
    }
}

async fn shop() -> (TestService, ShopApiClient) {
    let service = TestService::start(|chassis: Chassis| chassis.mount(Shop)).await.expect("the service starts");
    let client = Client::new(&format!("http://{}", service.http())).expect("an address");
    (service, ShopApiClient::new(client))
}

#[tokio::test]
async fn every_kind_of_argument_arrives_and_every_kind_of_answer_comes_back() {
    let (service, shop) = shop().await;
    let order = Order { id: OrderId(7), items: vec!["é\"\\".to_owned()] };
    assert_eq!(shop.order(OrderId(7)).await.unwrap().id, OrderId(7));
    let page = Page { after: Some(3), text: "a&b=c d+é%".to_owned(), color: Some(Color::Red) };
    assert_eq!(shop.search(&page).await.unwrap(), page);
    let page = Page { after: None, text: String::new(), color: None };
    assert_eq!(shop.search(&page).await.unwrap(), page);
    let placed = shop.place(&order).await.unwrap();
    assert_eq!((placed.location.as_deref(), placed.value), (Some("/orders/7"), order));
    assert_eq!(shop.add(&OrderId(7), "x", 3).await.unwrap().0, (OrderId(7), "x".to_owned(), 3));
    shop.cancel(7).await.unwrap();
    assert_eq!(shop.color(Color::Red, true).await.unwrap(), (Color::Red, true));
    assert_eq!(shop.perhaps(7).await.unwrap().map(|order| order.id), Some(OrderId(7)));
    assert_eq!(shop.perhaps(0).await.unwrap(), None);
    assert_eq!(shop.plain().await.unwrap().0, "as it is");
    assert_eq!(shop.response().await.unwrap().body(), "as it is");
    let streamed = shop.streamed().await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(streamed.to_bytes(), "as it is");
    assert_eq!(shop.items(7).await.unwrap(), 0);
    shop.touch(7).await.unwrap();
    service.stop().await.unwrap();
}

#[tokio::test]
async fn strange_characters_stay_in_their_segment() {
    let (service, shop) = shop().await;
    for text in [
        "a/b",
        "100%",
        "%2F",
        "a b",
        "größe 東京 🦀",
        "?x=1#y",
        "...",
        "a..b",
        "-._~!$&'()*+,;=:@",
        "\u{7f}\"<>\\^`{|}",
    ] {
        assert_eq!(shop.text(text).await.unwrap_or_else(|error| panic!("{text}: {error}")), text);
    }
    assert_eq!(shop.file("a/b c/größe").await.unwrap(), "a/b c/größe");
    for text in ["", ".", ".."] {
        let error = shop.text(text).await.unwrap_err();
        assert!(error.is_invalid_argument() && error.never_sent(), "{error:?}");
        assert!(error.to_string().starts_with("GET http://127.0.0.1:"), "{error}");
        assert!(error.to_string().contains("/v1/shop/texts/{text}: not sent: path parameter \"text\""), "{error}");
        assert!(shop.file(&format!("a/{text}/b")).await.is_err());
    }
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_problem_arrives_with_everything_that_was_told() {
    let (service, shop) = shop().await;
    let error = shop.order(OrderId(404)).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (CallErrorKind::Problem, Some("order_unknown")));
    assert_eq!(error.status().unwrap(), 404);
    let address = service.http();
    assert_eq!(
        error.to_string(),
        format!("GET http://{address}/v1/shop/orders/404: 404 order_unknown: there is no order 404")
    );
    let problem = error.problem().unwrap();
    assert_eq!(problem.member::<u64>("id"), Some(404));
    assert_eq!((problem.title(), problem.detail()), ("Not Found", Some("there is no order 404")));
    assert_eq!(problem.trace_id().map(str::len), Some(32));

    let error = shop.order(OrderId(503)).await.unwrap_err();
    assert_eq!((error.retry_after(), error.retry_safe()), (Some(Duration::from_secs(3)), true));
    assert!(error.problem().unwrap().retry_safe());

    let client = Client::new(&format!("http://{address}")).unwrap();
    let body = serde_json::json!({ "id": 7, "items": [1] });
    let error = client.call(Method::POST, "/v1/shop/orders").body(&body).json::<Order>().await.unwrap_err();
    let violations = error.problem().unwrap().violations().to_vec();
    assert_eq!((error.status().unwrap().as_u16(), &*violations[0].place), (422, "/items/0"), "{error}");

    assert_eq!(shop.whatever(404).await.unwrap().status(), 404);
    assert!(matches!(shop.unmapped(404).await, Err(ShopError::Remote(_))));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn one_connection_is_used_for_one_call_after_the_other_whatever_they_answer() {
    let (service, shop) = shop().await;
    let mut peers = HashSet::new();
    for _ in 0..5 {
        peers.insert(shop.about().await.unwrap().peer);
        shop.order(OrderId(404)).await.unwrap_err();
        shop.touch(7).await.unwrap();
        shop.cancel(7).await.unwrap();
        shop.place(&Order { id: OrderId(1), items: Vec::new() }).await.unwrap();
    }
    assert_eq!(peers.len(), 1, "{peers:?}");
    service.stop().await.unwrap();
}

#[tokio::test]
async fn http2_is_spoken_with_prior_knowledge() {
    let (service, _) = shop().await;
    let client = Client::builder(format!("http://{}", service.http())).http2().build().unwrap();
    let response = client.call(Method::GET, "/v1/shop/plain").answer::<Response<Bytes>>().await.unwrap();
    assert_eq!((response.version(), &**response.body()), (http::Version::HTTP_2, &b"as it is"[..]));
    service.stop().await.unwrap();
}

/// A service that calls another one.
struct Front(ShopApiClient);

#[derive(Debug, Serialize, Deserialize)]
struct Both {
    own: About,
    other: About,
}

#[service]
impl Front {
    #[get("/both")]
    async fn both(&self) -> Result<Both, CallError> {
        let own = About::now();
        // Some of the time is used up, so that less is left for the other.
        while About::now().left >= own.left && own.left.is_some() {
            tokio::task::yield_now().await;
        }
        let other = self.0.about().await?;
        Ok(Both { own, other })
    }

    #[get("/orders/{id}")]
    async fn order(&self, id: u64) -> Result<Order, CallError> {
        self.0.order(OrderId(id)).await
    }
}

async fn front(shop: ShopApiClient) -> TestService {
    TestService::start(|chassis: Chassis| chassis.mount(Front(shop))).await.expect("the service starts")
}

#[tokio::test]
async fn a_call_made_for_a_request_carries_its_trace_and_what_is_left_of_its_time() {
    let (back, _) = shop().await;
    // A plain client sends its trace to those alone that it is made for.
    let client =
        Client::builder(format!("http://{}", back.http())).propagate(Propagated::ALL).build().expect("an address");
    let front = front(ShopApiClient::new(client)).await;
    let request = Request::get(format!("http://{}/both", front.http())).header("x-request-timeout-ms", "9000");
    let answer = front.send(request.body(String::new()).unwrap()).await.unwrap();
    let both: Both = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(answer.header("x-trace-id"), both.own.trace);
    assert_eq!(both.other.trace, both.own.trace);
    // The call has a parent id of its own, beside the request's span.
    assert!(both.other.parent.is_some_and(|parent| parent != both.own.span));
    let (own, other) = (both.own.left.unwrap(), both.other.left.unwrap());
    assert!(other < own && own <= 9000, "{own} then {other}");
    back.stop().await.unwrap();
    front.stop().await.unwrap();
}

#[tokio::test]
async fn a_failed_dependency_is_no_fault_of_the_caller_and_its_inside_stays_in_the_log() {
    let (back, shop) = shop().await;
    let address = back.http();
    let front = front(shop).await;
    let answer = front.get("/orders/404").await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.json()["code"].as_str()), (502, Some("dependency_failed")));
    assert!(!answer.text().contains("order 404"), "{}", answer.text());
    let answer = front.get("/orders/503").await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "3"));

    back.stop().await.unwrap();
    let answer = front.get("/orders/7").await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.json()["code"].as_str()), (503, Some("no_endpoints")));
    assert!(!answer.text().contains(&address.port().to_string()), "{}", answer.text());
    let lines = log_lines_of(answer.header("x-trace-id"));
    let told = format!("GET http://{address}/v1/shop/orders/7: not sent: no connection: ");
    assert!(lines.iter().any(|line| line.to_string().contains(&told)), "{lines:#?}");
    front.stop().await.unwrap();
}

/// Answers with what it was asked.
#[derive(Clone)]
struct Mirror;

impl Service<Request<RequestBody>> for Mirror {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let info = request.extensions().get::<CallInfo>().expect("what is known of the call");
        let header = |name| request.headers().get(name).map(|value| value.to_str().expect("text"));
        let told = serde_json::json!({
            "method": request.method().as_str(),
            "uri": request.uri().to_string(),
            "accept": header("accept"),
            "content-type": header("content-type"),
            "timeout": header("x-request-timeout-ms"),
            "template": info.template,
            "idempotent": info.idempotent,
        });
        let response = Response::builder().header("content-type", "application/json");
        ready(Ok(response.body(Full::from(told.to_string())).expect("a response")))
    }
}

#[tokio::test]
async fn a_tower_service_in_place_of_the_connections_sees_the_whole_call() {
    let client = Client::with_service("http://orders:8080/base/", Mirror).unwrap();
    let call = || client.call(Method::POST, "/orders/{id}").path("id", "a b").query(&[("x", "1")]).query(&[("y", "2")]);
    let told: serde_json::Value = call().body(&7).timeout(Duration::from_secs(3600)).idempotent().json().await.unwrap();
    assert_eq!(
        (&told["method"], &told["uri"]),
        (&"POST".into(), &"http://orders:8080/base/orders/a%20b?x=1&y=2".into())
    );
    assert_eq!(told["accept"], "application/json, application/problem+json");
    assert_eq!((&told["content-type"], &told["template"]), (&"application/json".into(), &"/orders/{id}".into()));
    assert_eq!(told["idempotent"], true);
    let timeout: u64 = told["timeout"].as_str().unwrap().parse().unwrap();
    assert!((3_599_000..=3_600_000).contains(&timeout), "{timeout}");

    let told: serde_json::Value = call().json().await.unwrap();
    assert_eq!((&told["content-type"], &told["idempotent"]), (&serde_json::Value::Null, &false.into()));
}

#[tokio::test]
async fn an_answer_that_is_streamed_is_not_told_the_calls_own_timeout() {
    let client = Client::with_service("http://orders", Mirror).unwrap();
    let response = client.call(Method::GET, "/").answer::<Response<axum::body::Body>>().await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&told["timeout"], &told["accept"]), (&serde_json::Value::Null, &"*/*".into()));
}

#[tokio::test]
async fn a_call_without_time_is_not_sent() {
    let client = Client::with_service("http://orders", Mirror).unwrap();
    for timeout in [Duration::ZERO, Duration::from_micros(999)] {
        let error = client.call(Method::POST, "/").timeout(timeout).json::<u8>().await.unwrap_err();
        assert!(error.is_deadline_exceeded() && error.never_sent() && error.retry_safe(), "{error:?}");
        assert_eq!(error.to_string(), "POST http://orders/: not sent: the time was up");
        assert_eq!(error.into_problem().status(), 504);
    }
    // The largest time there is means no limit, and no header.
    let told: serde_json::Value = client.call(Method::GET, "/").timeout(Duration::MAX).json().await.unwrap();
    assert_eq!(told["timeout"], serde_json::Value::Null);
}

#[tokio::test]
async fn an_argument_that_cannot_be_written_is_told_when_the_call_is_sent() {
    let client = Client::with_service("http://orders", Mirror).unwrap();
    let not_text = std::collections::HashMap::from([((1, 2), 3)]);
    for (call, told) in [
        (client.call(Method::POST, "/").body(&not_text), "the body cannot be written as JSON: "),
        (client.call(Method::GET, "/").query(&7), "the query cannot be written: "),
        (client.call(Method::GET, "/{id}").path("id", &vec![1]), "path parameter \"id\": found a list"),
        (client.call(Method::GET, "/{id}"), "the path \"/{id}\" has no value for {id}"),
        (client.call(Method::GET, "/a b"), "the path \"/a b\" cannot be sent"),
    ] {
        let error = call.json::<u8>().await.unwrap_err();
        assert!(error.is_invalid_argument() && error.to_string().contains(told), "{error}");
        assert_eq!(error.into_problem().status(), 500);
    }
}

/// A stand-in for tests of those who call.
#[chassis::client]
trait Clock {
    #[get("/now")]
    async fn now(&self) -> Result<u64, CallError>;
}

struct StoppedClock;

impl Clock for StoppedClock {
    async fn now(&self) -> Result<u64, CallError> {
        Ok(42)
    }
}

#[tokio::test]
async fn a_trait_of_calls_has_stand_ins_and_its_futures_can_be_spawned() {
    async fn ask(clock: impl Clock + Send + Sync + 'static) -> u64 {
        tokio::spawn(async move { clock.now().await }).await.expect("no panic").expect("an answer")
    }
    assert_eq!(ask(StoppedClock).await, 42);
}
