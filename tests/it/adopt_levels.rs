//! `examples/adopt-axum`, `examples/adopt-tonic`: a caller cannot tell one level from another, and each has what it promises.

use std::net::{SocketAddr, TcpListener};

use ::inventory::proto::{
    GetStockRequest, ReserveRequest, Stock,
    inventory_server::{Inventory, InventoryServer},
};
use adopt_tonic::proto::{self, catalogue_client::CatalogueClient};
use chassis::{
    Chassis,
    testing::{OtlpReceiver, TestService},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, Endpoint},
};

use crate::support::{
    adopted::{self, Adopted, inventory},
    http1::{Answer, Connection},
    orders::send,
    process::PATIENCE,
    telemetry::eventually,
};

const LEVELS: [&str; 6] = ["plain", "level0", "level1", "level2", "level3", "level4"];
/// A trace that its caller records.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// What callers of the shop have always done, and what became of it.
async fn calls(address: SocketAddr) -> Vec<(String, Answer)> {
    let mut answers = Vec::new();
    for (method, path, body) in [
        ("GET", "/articles/pear", None),
        ("GET", "/articles/fig", None),
        ("POST", "/articles", Some(json!({"sku": "fig", "cents": 30}))),
        ("GET", "/articles/fig", None),
        ("POST", "/articles", Some(json!({"sku": "", "cents": 1}))),
        ("POST", "/articles", Some(json!({"sku": "fig"}))),
        ("GET", "/articles/pear/stock", None),
        ("GET", "/articles/nothing/stock", None),
        ("GET", "/healthz", None),
        ("GET", "/metrics", None),
        ("DELETE", "/articles/pear", None),
        ("GET", "/no/such/path", None),
    ] {
        answers.push((format!("{method} {path}"), send(address, method, path, body.as_ref()).await));
    }
    answers
}

#[tokio::test]
async fn adopt_axum_answers_the_same_at_every_level() {
    let mut inventory = inventory().await;
    let mut plain = Vec::new();
    for level in LEVELS {
        let mut service = Adopted::start("axum", level, inventory.http).await;
        let answers = calls(service.http).await;
        if level == "plain" {
            let statuses: Vec<_> = answers.iter().map(|(_, answer)| answer.status).collect();
            assert_eq!(statuses, [200, 404, 201, 200, 422, 422, 200, 404, 200, 200, 405, 404]);
            assert!(answers.iter().all(|(_, answer)| answer.header("x-content-type-options") == "nosniff"));
            plain = answers;
        } else {
            for ((call, before), (_, now)) in plain.iter().zip(&answers) {
                assert_eq!(before.status, now.status, "{level}: {call}");
                for kept in ["allow", "x-content-type-options"] {
                    assert_eq!(before.header(kept), now.header(kept), "{level}: {call}");
                }
                let told_by_axum = before.header("content-type").starts_with("text/plain") && before.status >= 400;
                match (before.status, level) {
                    // Bare at first, a problem since.
                    _ if before.body.is_empty() => assert_eq!(now.json()["status"], before.status, "{level}: {call}"),
                    // Problems have all that callers knew, and more.
                    (400.., "level4") if told_by_axum => assert_eq!(now.json()["code"], "invalid_request", "{call}"),
                    (400.., "level4") => assert_eq!(now.json()["error"], before.json()["error"], "{call}"),
                    _ => {
                        assert_eq!(before.body, now.body, "{level}: {call}");
                        assert_eq!(before.header("content-type"), now.header("content-type"), "{level}: {call}");
                    }
                }
            }
        }
        assert_eq!(service.terminate().await, 0, "{level}");
        let lines = service.process.stdout();
        assert!(lines.iter().any(|line| line.contains("closed")), "{level} ran its last step: {lines:#?}");
    }
    assert_eq!(inventory.terminate().await, 0);
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn adopt_axum_says_the_same_at_every_level_when_the_inventory_is_gone() {
    for level in LEVELS {
        let mut service = Adopted::start("axum", level, nobody()).await;
        let answer = service.get("/articles/pear/stock").await;
        let told = (answer.status, answer.json()["error"].clone());
        assert_eq!(told, (503, json!("nobody knows how many of pear there are")), "{level}");
        assert_eq!(service.terminate().await, 0, "{level}");
    }
}

/// Lets the process hear SIGTERM, and waits until it has begun to stop.
async fn stopping(service: &Adopted) {
    service.process.signal(Signal::TERM);
    eventually("the service stops", async || match service.admin {
        Some(admin) => (Connection::open(admin).await.ok()?.get("/readyz").await.ok()?.status == 503).then_some(()),
        // It has nothing else to tell of it.
        None => Connection::open(service.http).await.is_err().then_some(()),
    })
    .await;
}

/// Begins a request, and ends it when the service stops.
async fn under_way(service: &Adopted) -> Answer {
    let body = json!({"sku": "fig", "cents": 30}).to_string();
    let (begun, rest) = body.split_at(5);
    let mut connection = Connection::open(service.http).await.unwrap();
    let head = format!(
        "POST /articles HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    );
    connection.write(&head).await.unwrap();
    // The handler has begun to read.
    assert_eq!(connection.answer().await.unwrap().status, 100);
    connection.write(begun).await.unwrap();
    stopping(service).await;
    connection.write(rest).await.unwrap();
    connection.answer().await.unwrap()
}

#[tokio::test]
async fn adopt_axum_ends_what_is_under_way_at_every_level_before_it_stops() {
    for level in LEVELS.iter().chain(&["own-server"]) {
        let mut service = Adopted::start("axum", level, nobody()).await;
        let answer = under_way(&service).await;
        assert_eq!((answer.status, &answer.json()["sku"]), (201, &json!("fig")), "{level}");
        assert_eq!(service.process.exit_code().await, 0, "{level}");
    }
}

#[tokio::test]
async fn adopt_axum_level0_brings_probes_and_metrics_and_keeps_its_own_subscriber() {
    let mut service = Adopted::start("axum", "level0", nobody()).await;
    let answer = service.get("/articles/pear").await;
    assert_eq!(answer.header("x-trace-id").len(), 32);
    for probe in ["/livez", "/readyz", "/startupz"] {
        assert_eq!(service.get(probe).await.status, 200, "{probe}");
        assert_eq!(service.operator(probe).await.status, 200, "{probe}");
    }
    let counted = r#"http_server_request_duration_seconds_count{http_request_method="GET",http_response_status_code="200",http_route="/articles/{sku}""#;
    let metrics = service.operator("/metrics").await.body;
    assert!(metrics.contains(counted), "{metrics}");
    let own = service.process.says("looked up").await;
    assert!(own.contains("INFO adopt_axum: looked up sku=\"pear\""), "{own}");
    let notice = service.process.says("installed before the chassis").await;
    assert!(notice.contains("WARN"), "{notice}");
    assert_eq!(service.terminate().await, 0);
    assert!(service.process.stdout().iter().any(|line| line.contains("chassis::access")), "access lines are flushed");
}

#[tokio::test]
async fn adopt_axum_level1_hands_over_its_check_its_task_and_its_signals() {
    let mut service = Adopted::start("axum", "level1", nobody()).await;
    let checks = service.operator("/health").await.json()["checks"].clone();
    assert_eq!(checks["shop"]["status"], "up", "{checks}");
    assert_eq!(checks["background:report"]["status"], "up", "{checks}");
    service.process.says("in the shop").await;
    // Reads the configuration again, and does not die of it.
    service.process.signal(Signal::HUP);
    assert_eq!(service.get("/articles/pear").await.status, 200);
    assert_eq!(service.terminate().await, 0);
    let lines = service.process.stdout();
    let at =
        |text: &str| lines.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {lines:#?}"));
    assert!(at("draining") < at("closed"), "the hook runs behind the drain: {lines:#?}");
}

/// One article in a trace that is recorded.
async fn traced(address: SocketAddr, path: &str) -> Answer {
    let mut connection = Connection::open(address).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\ntraceparent: 00-{TRACE}-b7ad6b7169203331-01\r\n\r\n");
    connection.write(&head).await.unwrap();
    connection.answer().await.unwrap()
}

#[tokio::test]
async fn adopt_axum_level2_logs_in_the_trace_counts_and_exports() {
    let receiver = OtlpReceiver::start().await.unwrap();
    let exported =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.grpc_endpoint()), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc".to_owned())];
    let mut service = adopted::with("axum", "level2", nobody(), &exported).await;
    assert_eq!(traced(service.http, "/articles/pear").await.header("x-trace-id"), TRACE);
    let line: Value = serde_json::from_str(&service.process.says("looked up").await).unwrap();
    assert_eq!((&line["trace_id"], &line["sku"]), (&json!(TRACE), &json!("pear")));
    send(service.http, "POST", "/articles", Some(&json!({"sku": "fig", "cents": 30}))).await;
    let metrics = service.operator("/metrics").await.body;
    assert!(
        metrics.lines().any(|line| line.starts_with("shop_articles_added_total") && line.ends_with(" 1")),
        "{metrics}"
    );
    assert_eq!(service.terminate().await, 0);
    let spans = receiver.wait_for_spans(2, PATIENCE).await;
    assert!(
        spans.iter().any(|span| span.name == "GET /articles/{sku}" && span.trace_id.to_string() == TRACE),
        "{spans:#?}"
    );
}

#[tokio::test]
async fn adopt_axum_level3_calls_in_the_callers_trace_and_shows_its_dependency() {
    let mut inventory = inventory().await;
    let mut service = Adopted::start("axum", "level3", inventory.http).await;
    assert_eq!(traced(service.http, "/articles/pear/stock").await.json()["count"], 100);
    let seen: Value = serde_json::from_str(&inventory.process.says("/stock/pear").await).unwrap();
    assert_eq!(seen["trace_id"], TRACE, "{seen}");
    let dependencies = service.operator("/admin/dependencies").await.json();
    assert_eq!(dependencies[0]["name"], "inventory", "{dependencies}");
    let metrics = service.operator("/metrics").await.body;
    assert!(metrics.contains(r#"chassis_client_call_duration_seconds_count{destination="inventory""#), "{metrics}");
    assert_eq!(service.terminate().await, 0);
    assert_eq!(inventory.terminate().await, 0);
}

#[tokio::test]
async fn adopt_axum_level4_has_a_document_problems_and_exit_codes() {
    let mut service = Adopted::start("axum", "level4", nobody()).await;
    let document = service.get("/openapi.json").await.json();
    for path in ["/articles/{sku}", "/articles", "/articles/{sku}/stock"] {
        assert!(document["paths"][path].is_object(), "{path}: {document}");
    }
    let refused = service.get("/articles/fig").await;
    assert_eq!(refused.header("content-type"), "application/problem+json");
    assert_eq!(refused.json()["code"], "unknown_article");
    assert_eq!(service.terminate().await, 0);
    let ended = adopted::level4_without_an_inventory().run().await;
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("clients.inventory"), "{ended:?}");
}

#[tokio::test]
async fn adopt_axum_own_server_has_the_whole_stack_in_front_of_it() {
    let mut service = Adopted::start("axum", "own-server", nobody()).await;
    let answer = service.get("/articles/pear").await;
    assert_eq!((answer.status, &*answer.body), (200, r#"{"sku":"pear","cents":120}"#));
    assert_eq!(answer.header("x-trace-id").len(), 32);
    assert_eq!(service.get("/readyz").await.status, 200);
    assert_eq!(service.get("/no/such/path").await.json()["code"], "not_found");
    let too_late = "GET /articles/pear HTTP/1.1\r\nhost: localhost\r\nx-request-timeout-ms: 0\r\n\r\n";
    let mut connection = Connection::open(service.http).await.unwrap();
    connection.write(too_late).await.unwrap();
    assert_eq!(connection.answer().await.unwrap().json()["code"], "deadline_exceeded");
    let metrics = service.operator("/metrics").await.body;
    assert!(
        metrics.lines().any(|line| line.starts_with("shop_connections_total") && line.ends_with(" 4")),
        "{metrics}"
    );
    let line = service.process.says("chassis::access").await;
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["network.peer.address"], "127.0.0.1", "as axum's ConnectInfo tells it: {line}");
    assert_eq!(service.terminate().await, 0);
}

async fn client(address: SocketAddr) -> CatalogueClient<Channel> {
    CatalogueClient::new(Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap())
}

/// What callers of the catalogue have always done, and what became of it.
async fn rpcs(address: SocketAddr) -> Vec<(Code, String)> {
    let mut client = client(address).await;
    let article = |sku: &str, cents| proto::Article { sku: sku.to_owned(), cents };
    let get = |sku: &str| proto::GetArticleRequest { sku: sku.to_owned() };
    let count = |sku: &str| proto::GetCountRequest { sku: sku.to_owned() };
    fn told<T: std::fmt::Debug>(answer: Result<tonic::Response<T>, Status>) -> (Code, String) {
        match answer {
            Ok(answer) => (Code::Ok, format!("{:?}", answer.into_inner())),
            Err(status) => (status.code(), status.message().to_owned()),
        }
    }
    vec![
        told(client.get_article(get("pear")).await),
        told(client.get_article(get("fig")).await),
        told(client.add_article(article("fig", 30)).await),
        told(client.get_article(get("fig")).await),
        told(client.add_article(article("", 1)).await),
        told(client.get_count(count("pear")).await),
        told(client.get_count(count("nothing")).await),
    ]
}

#[tokio::test]
async fn adopt_tonic_answers_the_same_at_every_level() {
    let mut inventory = inventory().await;
    let mut plain = Vec::new();
    for level in LEVELS {
        let mut service = Adopted::start("tonic", level, inventory.http).await;
        let answers = rpcs(service.http).await;
        if level == "plain" {
            let codes: Vec<_> = answers.iter().map(|(code, _)| *code).collect();
            let (ok, unknown) = (Code::Ok, Code::NotFound);
            assert_eq!(codes, [ok, unknown, ok, ok, Code::InvalidArgument, ok, unknown]);
            plain = answers;
        } else {
            assert_eq!(answers, plain, "{level}");
        }
        assert_eq!(service.terminate().await, 0, "{level}");
        let lines = service.process.stdout();
        assert!(lines.iter().any(|line| line.contains("closed")), "{level} ran its last step: {lines:#?}");
    }
    assert_eq!(inventory.terminate().await, 0);
}

#[tokio::test]
async fn adopt_tonic_says_the_same_at_every_level_when_the_inventory_is_gone() {
    for level in LEVELS {
        let mut service = Adopted::start("tonic", level, nobody()).await;
        let mut client = client(service.http).await;
        let refused = client.get_count(proto::GetCountRequest { sku: "pear".to_owned() }).await.unwrap_err();
        let told = (refused.code(), refused.message());
        assert_eq!(told, (Code::Unavailable, "nobody knows how many of pear there are"), "{level}");
        drop(client);
        assert_eq!(service.terminate().await, 0, "{level}");
    }
}

/// An inventory that answers when the test says so.
struct Held(mpsc::Sender<oneshot::Sender<u32>>);

#[tonic::async_trait]
impl Inventory for Held {
    async fn get_stock(&self, request: Request<GetStockRequest>) -> Result<Response<Stock>, Status> {
        let (answer, answered) = oneshot::channel();
        self.0.send(answer).await.map_err(|_| Status::internal("nobody waits"))?;
        let count = answered.await.map_err(|_| Status::internal("nobody answered"))?;
        Ok(Response::new(Stock { sku: request.into_inner().sku, count, told_by: String::new() }))
    }

    async fn reserve(&self, _: Request<ReserveRequest>) -> Result<Response<Stock>, Status> {
        Err(Status::unimplemented("not asked for"))
    }
}

#[tokio::test]
async fn adopt_tonic_ends_what_is_under_way_at_every_level_before_it_stops() {
    let (asked, mut questions) = mpsc::channel(1);
    let inventory =
        TestService::start(|chassis: Chassis| chassis.grpc(InventoryServer::new(Held(asked)))).await.unwrap();
    for level in LEVELS {
        let mut service = Adopted::start("tonic", level, inventory.http()).await;
        let mut client = client(service.http).await;
        let call = tokio::spawn(async move { client.get_count(proto::GetCountRequest { sku: "pear".into() }).await });
        let answer = questions.recv().await.expect("the inventory is asked");
        stopping(&service).await;
        answer.send(7).expect("the question waits");
        assert_eq!(call.await.unwrap().map(|answer| answer.into_inner().count).ok(), Some(7), "{level}");
        assert_eq!(service.process.exit_code().await, 0, "{level}");
    }
    inventory.stop().await.unwrap();
}

#[tokio::test]
async fn adopt_tonic_levels_have_what_they_promise() {
    let mut inventory = inventory().await;
    for level in &LEVELS[1..] {
        let mut service = Adopted::start("tonic", level, inventory.http).await;
        // Probes over HTTP, and the health service over gRPC, from level 0 on.
        assert_eq!(service.get("/readyz").await.status, 200, "{level}");
        let mut connection = crate::support::http2::Connection::open(service.http).await.unwrap();
        let health =
            connection.call("/grpc.health.v1.Health/Check", b"", http::HeaderMap::new()).await.unwrap().next().await;
        assert_eq!(
            health,
            crate::support::http2::Next::Message(bytes::Bytes::from_static(&[8, 1])),
            "{level}: SERVING"
        );
        rpcs(service.http).await;
        let metrics = service.operator("/metrics").await.body;
        let counted = r#"rpc_method="catalogue.v1.Catalogue/GetArticle""#;
        assert!(metrics.contains(counted), "{level}: {metrics}");
        let checks = service.operator("/health").await.json()["checks"].clone();
        assert_eq!(checks["shop"]["status"] == "up", *level >= "level1", "{level}: {checks}");
        assert_eq!(metrics.contains("shop_articles_added_total"), *level >= "level2", "{level}");
        let dependencies = service.operator("/admin/dependencies").await.json();
        assert_eq!(dependencies[0]["name"] == "inventory", *level >= "level3", "{level}: {dependencies}");
        let over_http = service.get("/articles/pear").await;
        assert_eq!(over_http.status == 200, *level >= "level4", "{level}");
        assert_eq!(service.terminate().await, 0, "{level}");
    }
    assert_eq!(inventory.terminate().await, 0);
}
