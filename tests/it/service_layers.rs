//! Layers and fallbacks of an application: what of them runs for which request, beside the chassis's own layers.

use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc, task::Poll};

use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn, map_response},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use chassis::{
    Chassis, Problem, RequestContext,
    prelude::*,
    reject,
    service::{GrpcRoutes, RouteInfo, Routes, Service, Shape},
    testing::{TestResponse, TestService},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::handshake;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpStream;
use tonic::{body::Body, server::NamedService};

use crate::{
    grpc_web,
    support::{
        echo::{Echo, Word, word},
        http2::{Connection, Next as Answered},
        scrape::until,
        witness::Witness,
    },
};

const ORIGIN: &str = "https://shop.example";

/// CORS as tower-http's layer does it: a preflight is answered, every other answer gets the header.
async fn cors(request: Request, next: Next) -> Response {
    let mut answer = match *request.method() == Method::OPTIONS {
        true => StatusCode::OK.into_response(),
        false => next.run(request).await,
    };
    answer.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static(ORIGIN));
    answer
}

/// A layer's mark on an answer.
fn marked(by: &'static str) -> impl Fn(Response) -> std::future::Ready<Response> + Clone {
    move |mut answer| {
        answer.headers_mut().append("x-mark", HeaderValue::from_static(by));
        std::future::ready(answer)
    }
}

fn marks(answer: &TestResponse) -> Vec<&str> {
    answer.headers.get_all("x-mark").iter().filter_map(|mark| mark.to_str().ok()).collect()
}

async fn ask(service: &TestService, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> TestResponse {
    let mut request = http::Request::builder().method(method).uri(format!("http://{}{path}", service.http()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    service.send(request.body(body.to_owned()).unwrap()).await.unwrap()
}

async fn preflight(service: &TestService, path: &str) -> TestResponse {
    let asked = [("origin", ORIGIN), ("access-control-request-method", "POST")];
    ask(service, "OPTIONS", path, &asked, "").await
}

fn allows(answer: &TestResponse) -> bool {
    answer.header("access-control-allow-origin") == ORIGIN
}

struct Greeter;

#[service]
impl Greeter {
    #[get("/greet/{name}")]
    async fn greet(&self, name: String) -> String {
        name
    }
}

fn page(path: &'static str) -> Router {
    Router::new().route(path, get(|| async { "a page" }))
}

#[tokio::test]
async fn layers_of_a_router_run_for_unmatched_paths() {
    let witness = Witness::new();
    let app = || page("/page").layer(map_response(marked("app"))).layer(from_fn(cors));
    for order in 0..4 {
        let echo = Echo(witness.clone());
        let service = TestService::start(move |chassis: Chassis| match order {
            0 => chassis.mount(app()),
            1 => chassis.mount(Greeter).mount(app()).grpc(echo),
            2 => chassis.grpc(echo).mount(app()).mount(Greeter),
            // Neither does a router that is mounted later take it.
            _ => chassis.mount(app()).mount(page("/other").layer(map_response(marked("other")))).mount(Greeter),
        })
        .await
        .unwrap();
        for path in ["/no/such/path", "/", "/page/2"] {
            let missing = service.get(path).await.unwrap();
            assert_eq!((missing.status.as_u16(), marks(&missing)), (404, vec!["app"]), "{order}: {path}");
            assert_eq!(missing.json()["code"], "not_found", "{order}: {path}");
            assert!(allows(&missing), "{order}: {path}");
            let answered = preflight(&service, path).await;
            assert!(answered.status == 200 && allows(&answered), "{order}: {path}");
        }
        let refused = service.post("/page", "").await.unwrap();
        assert_eq!((refused.status.as_u16(), marks(&refused)), (405, vec!["app"]), "{order}");
        // Routes of others are none of its business.
        assert_eq!(marks(&service.get("/readyz").await.unwrap()), [""; 0], "{order}");
        if order == 3 {
            assert_eq!(marks(&service.get("/other").await.unwrap()), ["other"]);
        }
        service.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_fallback_answers_whichever_router_has_it() {
    let with_fallback = || {
        page("/page")
            .fallback(|| async { (StatusCode::NOT_FOUND, "nothing here") })
            .method_not_allowed_fallback(|| async { (StatusCode::METHOD_NOT_ALLOWED, "not so") })
            .layer(map_response(marked("app")))
    };
    for order in 0..4 {
        let echo = Echo(Witness::new());
        let service = TestService::start(move |chassis: Chassis| match order {
            0 => chassis.mount(with_fallback()),
            1 => chassis.mount(page("/other")).mount(with_fallback()).mount(Greeter).grpc(echo),
            2 => chassis.mount(Greeter).mount(with_fallback()).mount(page("/other")),
            _ => chassis.grpc(echo).mount(with_fallback()).mount(page("/other")),
        })
        .await
        .unwrap();
        let missing = service.get("/no/such/path").await.unwrap();
        assert_eq!((missing.status.as_u16(), missing.text().as_str()), (404, "nothing here"), "{order}");
        let refused = service.post("/page", "").await.unwrap();
        assert_eq!((refused.status.as_u16(), refused.text().as_str()), (405, "not so"), "{order}");
        assert_eq!((marks(&missing), marks(&refused)), (vec!["app"], vec!["app"]), "{order}");
        service.stop().await.unwrap();
    }
}

#[tokio::test]
async fn two_routers_with_a_fallback_are_refused() {
    let refused = TestService::start(|chassis: Chassis| {
        let with_fallback = || Router::new().fallback(|| async { "mine" });
        chassis.mount(with_fallback()).mount(with_fallback())
    });
    let refusal = refused.await.unwrap_err().to_string();
    assert!(refusal.contains("Router::reset_fallback"), "{refusal}");
}

#[derive(serde::Deserialize)]
struct Note {
    _text: String,
}

struct Desk;

#[service]
impl Desk {
    #[post("/notes")]
    async fn note(&self, note: Note) -> u64 {
        drop(note);
        7
    }

    #[post("/small", body_limit = "1B")]
    async fn small(&self, note: Note) -> u64 {
        drop(note);
        7
    }

    #[get("/panic")]
    async fn panic(&self) -> u64 {
        panic!("at the desk")
    }

    #[get("/slow", timeout = "1ms")]
    async fn slow(&self) -> u64 {
        std::future::pending().await
    }

    #[get("/full", concurrency = 1)]
    async fn full(&self) -> u64 {
        std::future::pending().await
    }
}

#[tokio::test]
async fn own_layers_are_around_every_answer() {
    let echo = Echo(Witness::new());
    let service = TestService::start(move |chassis: Chassis| {
        let chassis = chassis.layer(map_response(marked("inner"))).mount(Desk).grpc(echo);
        chassis.layer(from_fn(cors)).layer(map_response(marked("outer")))
    })
    .await
    .unwrap();
    let busy = tokio::spawn({
        let address = service.http();
        async move { Connection::open(address).await.unwrap().get("/full").await }
    });
    until(&service, "chassis_bulkhead_in_use", &[], 1.0).await;
    let json = [("content-type", "application/json")];
    for (method, path, headers, body, status) in [
        ("GET", "/readyz", &[][..], "", 200),
        ("GET", "/no/such/path", &[], "", 404),
        ("GET", "/notes", &[], "", 405),
        ("POST", "/notes", &[], "{}", 415),
        ("POST", "/notes", &json, "{", 400),
        ("POST", "/notes", &json, "{}", 422),
        ("POST", "/small", &json, "{}", 413),
        ("GET", "/slow", &[("accept", "text/html")], "", 406),
        ("GET", "/slow", &[], "", 504),
        ("GET", "/panic", &[], "", 500),
        ("GET", "/full", &[], "", 503),
        ("GET", "/test.v1.Echo/Say", &[], "", 415),
        ("GET", "/openapi.json", &[], "", 200),
    ] {
        let answer = ask(&service, method, path, headers, body).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(allows(&answer), "{method} {path}: {:?}", answer.headers);
        assert_eq!(marks(&answer), ["inner", "outer"], "{method} {path}");
        assert_eq!(answer.header("x-trace-id").len(), 32, "the observer is outside: {method} {path}");
    }
    for path in ["/test.v1.Echo/Say", "/notes", "/no/such/path"] {
        let answer = preflight(&service, path).await;
        assert!(answer.status == 200 && allows(&answer), "{path}: {answer:?}");
        assert_eq!(marks(&answer), ["outer"], "{path}");
    }
    let (messages, status) = grpc_web::read(&grpc_web::call(&service, "/test.v1.Echo/Say", "hello", "").await);
    assert_eq!((messages.len(), status.as_str()), (1, "0"));
    let layers = service.operator("/admin/layers").await.unwrap().json();
    let names: Vec<_> = layers.as_array().unwrap().iter().map(|layer| layer["name"].as_str().unwrap()).collect();
    assert_eq!(names[..8], ["observe", "catch_panic", "drain", "own", "own", "own", "deadline", "host"]);
    busy.abort();
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_panic_of_an_own_layer_is_an_answer() {
    async fn broken(request: Request, next: Next) -> Response {
        assert!(request.uri().path() != "/page", "in the layer");
        next.run(request).await
    }
    let service =
        TestService::start(|chassis: Chassis| chassis.mount(page("/page")).layer(from_fn(broken))).await.unwrap();
    let answer = service.get("/page").await.unwrap();
    assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (500, &"internal".into()));
    assert_eq!(service.get("/readyz").await.unwrap().status, 200);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_layer_may_rewrite_the_path_of_a_matched_route() {
    async fn trimmed(mut request: Request, next: Next) -> Response {
        let path = request.uri().path().trim_end_matches('/').to_owned();
        if path.len() > 1 {
            *request.uri_mut() = path.parse().unwrap();
        }
        next.run(request).await
    }
    let service = TestService::start(|chassis: Chassis| chassis.mount(Greeter).layer(from_fn(trimmed))).await.unwrap();
    assert_eq!(service.get("/greet/ada/").await.unwrap().text(), "\"ada\"");
    until(&service, "http_server_request_duration_seconds_count", &["http_route=\"/greet/{name}\""], 1.0).await;
    service.stop().await.unwrap();
}

/// A tonic server behind a CORS layer of its own.
#[derive(Clone)]
struct Fronted(Echo);

impl NamedService for Fronted {
    const NAME: &'static str = Echo::NAME;
}

impl tower_service::Service<http::Request<Body>> for Fronted {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut echo = self.0.clone();
        Box::pin(async move {
            let mut answer = match *request.method() == Method::OPTIONS {
                true => http::Response::new(Body::empty()),
                false => echo.call(request).await?,
            };
            answer.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static(ORIGIN));
            Ok(answer)
        })
    }
}

#[tokio::test]
async fn a_grpc_web_preflight_reaches_the_servers_layer() {
    let witness = Witness::new();
    let fronted = Fronted(Echo(witness.clone()));
    let service = TestService::start(move |chassis: Chassis| chassis.grpc(fronted)).await.unwrap();
    let answer = preflight(&service, "/test.v1.Echo/Say").await;
    assert!(answer.status == 200 && allows(&answer), "{answer:?}");
    let called = grpc_web::call(&service, "/test.v1.Echo/Say", "hello", "origin: https://shop.example\r\n").await;
    assert_eq!(called.header("access-control-allow-origin"), ORIGIN);
    // Plain HTTP that is no preflight is turned away before.
    let plain = ask(&service, "OPTIONS", "/test.v1.Echo/Say", &[], "").await;
    assert_eq!(plain.status, 415);
    service.stop().await.unwrap();

    let echo = Echo(Witness::new());
    let service = TestService::start(move |chassis: Chassis| chassis.grpc(echo)).await.unwrap();
    let refused = preflight(&service, "/test.v1.Echo/Say").await;
    assert_eq!((refused.status.as_u16(), &refused.json()["code"]), (415, &"invalid_request".into()));
    service.stop().await.unwrap();
}

/// A block with a route and an rpc, by hand.
struct Both;

impl Service for Both {
    fn describe() -> Vec<RouteInfo> {
        vec![RouteInfo::new(Method::GET, "/both", "both")]
    }

    fn into_router(self: Arc<Self>) -> Router {
        Router::new().route("/both", get(|| async { "both" }))
    }

    fn into_grpc(self: Arc<Self>) -> Option<GrpcRoutes> {
        let info = RouteInfo::rpc("both.v1.Both", "Say", "both");
        Some(GrpcRoutes::new("both.v1.Both").unary(info, Shape::<Word, Word>::new(), |word| async { Ok(word) }))
    }
}

impl IntoRoutes for Both {
    fn into_routes(self) -> Routes {
        Routes::of(Arc::new(self))
    }
}

async fn with_key(request: Request, next: Next) -> Response {
    if request.headers().contains_key("x-key") {
        return next.run(request).await;
    }
    let protocol = RequestContext::current().map_or(chassis::context::Protocol::Http, |context| context.protocol());
    // gRPC-Web is translated further out.
    let protocol = match protocol {
        chassis::context::Protocol::Http => protocol,
        _ => chassis::context::Protocol::Grpc,
    };
    reject::answer(Problem::unauthenticated("no_key"), protocol)
}

#[tokio::test]
async fn a_layer_of_a_block_holds_over_http_and_grpc() {
    let service = TestService::start(|chassis: Chassis| {
        chassis.mount(Both.into_routes().layer(from_fn(with_key))).mount(page("/open"))
    })
    .await
    .unwrap();
    assert_eq!(service.get("/both").await.unwrap().status, 401);
    assert_eq!(ask(&service, "GET", "/both", &[("x-key", "1")], "").await.text(), "both");
    assert_eq!(service.get("/open").await.unwrap().status, 200, "another router's");
    assert_eq!(service.get("/readyz").await.unwrap().status, 200);
    let mut connection = Connection::open(service.http()).await.unwrap();
    for (key, code) in [(None, "16"), (Some("1"), "0")] {
        let mut headers = HeaderMap::new();
        headers.extend(key.map(|key| (http::HeaderName::from_static("x-key"), HeaderValue::from_static(key))));
        let mut answer = connection.call("/both.v1.Both/Say", &word("a").encode_to_vec(), headers).await.unwrap();
        let ended = loop {
            match answer.next().await {
                Answered::End(status) => break status,
                Answered::Message(_) => {}
            }
        };
        assert_eq!(ended, code, "{key:?}");
    }
    let (messages, status) = grpc_web::read(&grpc_web::call(&service, "/both.v1.Both/Say", "a", "").await);
    assert_eq!((messages.len(), status.as_str()), (0, "16"));
    // Described as before.
    assert!(service.operator("/admin/routes").await.unwrap().text().contains("/both"));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_blocks_router_is_tested_as_any_router() {
    use tower::ServiceExt as _;
    let app = page("/page").merge(Arc::new(Greeter).into_router()).layer(map_response(marked("app")));
    let request = http::Request::get("/greet/ada").body(axum::body::Body::empty()).unwrap();
    let answer = app.oneshot(request).await.unwrap();
    assert_eq!((answer.status(), &answer.headers()["x-mark"]), (StatusCode::OK, &HeaderValue::from_static("app")));
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "\"ada\"");
}

#[tokio::test]
async fn cookies_reach_handlers_as_one_field() {
    async fn cookies(headers: HeaderMap) -> String {
        let fields: Vec<_> = headers.get_all(header::COOKIE).iter().map(|field| field.to_str().unwrap()).collect();
        fields.join(" | ")
    }
    /// What a layer around everything sees.
    async fn seen(request: Request, next: Next) -> Response {
        let several = request.headers().get_all(header::COOKIE).iter().count();
        let mut answer = next.run(request).await;
        answer.headers_mut().insert("x-cookies", HeaderValue::from(several));
        answer
    }
    let routes = || Router::new().route("/cookies", post(cookies));
    let service = TestService::start(|chassis: Chassis| chassis.mount(routes()).layer(from_fn(seen))).await.unwrap();
    let request = || {
        let request = http::Request::post(format!("http://{}/cookies", service.http()));
        let request = request.header("cookie", "a=1").header("cookie", "b=2; c=3").header("cookie", "d=4");
        request.body(Full::new(bytes::Bytes::new())).unwrap()
    };
    let io = TokioIo::new(TcpStream::connect(service.http()).await.unwrap());
    let (mut http2, connection) = handshake(TokioExecutor::new(), io).await.unwrap();
    let driver = tokio::spawn(connection);
    let answer = http2.send_request(request()).await.unwrap();
    assert_eq!(answer.headers()["x-cookies"], "1");
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "a=1; b=2; c=3; d=4");
    driver.abort();
    let answer = service.send(request().map(|_| String::new())).await.unwrap();
    assert_eq!(answer.text(), "a=1; b=2; c=3; d=4", "over HTTP/1.1");
    service.stop().await.unwrap();
}
