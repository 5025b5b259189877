//! Rpcs of a domain service: the same types and problems as over HTTP, beside a tonic server on the same port.

use std::{collections::HashMap, sync::Arc};

use axum::Router;
use chassis::{
    Chassis, Problem,
    problem::IntoProblem,
    service::{
        Arguments, Fields, GrpcRoutes, IntoRoutes, Rejection, RouteInfo, RoutePolicy, Routes, Service, json, shape,
    },
    testing::TestService,
};
use http::{HeaderMap, HeaderValue};
use prost::Message;
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto,
    ServiceDescriptorProto,
};
use tonic::{Code, Status};

use crate::{
    grpc_web,
    support::{
        echo::{Client, Echo, Word, word},
        http2::{Connection, Next},
        python,
        raw::Raw,
        scrape::{sum, until, until_nothing_is_in_flight},
        telemetry::access_line,
        witness::Witness,
    },
};

const COUNT: &str = "rpc_server_call_duration_seconds_count";
const NAME: &str = "words.v1.Words";

/// The trait as `tonic_prost_build` makes it.
mod proto {
    use tonic::{Request, Response, Status};

    use super::Word;

    #[tonic::async_trait]
    pub trait Words: Send + Sync + 'static {
        async fn look_up(&self, request: Request<Word>) -> Result<Response<Word>, Status>;
    }
}

/// A word that somebody may look up: in lower case.
struct Term(String);

impl TryFrom<String> for Term {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match text.chars().all(|c| c.is_lowercase() || c == '_') {
            true => Ok(Self(text)),
            false => Err(format!("expected lower case, found {text:?}")),
        }
    }
}

/// The domain: no word of HTTP or gRPC.
struct Words(Witness);

#[derive(Debug, thiserror::Error, Problem)]
enum WordError {
    #[error("there is no word {0}")]
    #[problem(not_found, code = "unknown_word")]
    Unknown(String),
    #[error("the shelf is broken")]
    #[problem(unavailable, code = "shelf", retry_after = "2s")]
    Shelf(#[source] std::io::Error),
}

impl Words {
    async fn look_up(&self, term: Term) -> Result<String, WordError> {
        let _at_work = self.0.begin();
        match term.0.as_str() {
            "unknown" => Err(WordError::Unknown(term.0)),
            "broken" => Err(WordError::Shelf(std::io::Error::other("a secret of the shelf"))),
            "panic" => panic!("a secret of the handler"),
            "hang" => std::future::pending().await,
            _ => Ok(term.0),
        }
    }
}

/// `LookUp` with the limit of the service, `Small` with one of its own.
fn rpcs(words: &Arc<Words>, name: &'static str) -> GrpcRoutes {
    let infos = [
        RouteInfo::rpc(name, "LookUp", "look_up"),
        RouteInfo::rpc(name, "Small", "look_up").policy(RoutePolicy::new().body_limit(1024)),
    ];
    infos.into_iter().fold(GrpcRoutes::new(name).message_limit(1 << 20), |routes, info| {
        let words = words.clone();
        routes.unary(info, shape(<dyn proto::Words>::look_up), move |message| {
            let words = words.clone();
            async move {
                let mut fields = Fields::new();
                let term = fields.take("text", message.text);
                let Some(term) = term else { return Err(fields.into_problem()) };
                words.look_up(term).await.map(word).map_err(IntoProblem::into_problem)
            }
        })
    })
}

impl Service for Words {
    fn describe() -> Vec<RouteInfo> {
        vec![RouteInfo::new(http::Method::GET, "/words/{text}", "look_up")]
    }

    fn into_router(self: Arc<Self>) -> Router {
        let look_up = move |arguments: Arguments| {
            let words = self.clone();
            async move {
                let term = Term(arguments.path("text")?);
                let found = words.look_up(term).await.map_err(|error| Rejection::from(error.into_problem()))?;
                Ok::<_, Rejection>(json(http::StatusCode::OK, &found))
            }
        };
        Router::new().route("/words/{text}", axum::routing::get(look_up))
    }

    fn into_grpc(self: Arc<Self>) -> Option<GrpcRoutes> {
        Some(rpcs(&self, NAME))
    }
}

impl IntoRoutes for Words {
    fn into_routes(self) -> Routes {
        Routes::of(Arc::new(self))
    }
}

async fn start(witness: &Witness) -> TestService {
    let (words, echo) = (Words(witness.clone()), Echo(witness.clone()));
    TestService::start(|chassis: Chassis| chassis.mount(words).grpc(echo)).await.unwrap()
}

fn trace_id(status: &Status) -> String {
    status.metadata().get("x-trace-id").unwrap().to_str().unwrap().to_owned()
}

async fn look_up(client: &mut Client, text: &str) -> Result<String, Status> {
    client.call("/words.v1.Words/LookUp", text, "").await.map(|answer| answer.into_inner().text)
}

#[tokio::test]
async fn a_mounted_rpc_and_a_tonic_server_share_port_health_and_metrics() {
    let service = start(&Witness::new()).await;
    let mut client = Client::connect(service.http()).await;
    assert_eq!(look_up(&mut client, "chassis").await.unwrap(), "chassis");
    assert_eq!(client.say("hello", "").await.unwrap().into_inner().text, "hello");
    until(&service, COUNT, &["rpc_method=\"words.v1.Words/LookUp\"", "\"OK\""], 1.0).await;

    let mut connection = Connection::open(service.http()).await.unwrap();
    for name in [NAME, "test.v1.Echo"] {
        let question = word(name).encode_to_vec();
        let mut answer = connection.call("/grpc.health.v1.Health/Check", &question, HeaderMap::new()).await.unwrap();
        assert_eq!(answer.next().await, Next::Message([8, 1].as_slice().into()), "{name} is SERVING");
    }
    for path in ["/words.v1.Words/NoSuchMethod", "/words.v1.Other/LookUp"] {
        let status = client.call(path, "chassis", "").await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{path}: {status:?}");
    }
    let mut raw = Raw::connect(service.http()).await;
    raw.get("/words.v1.Words/LookUp").await.assert_problem(415, "invalid_request");
}

#[tokio::test]
async fn a_problem_has_the_same_word_over_both_transports() {
    let service = start(&Witness::new()).await;
    let mut client = Client::connect(service.http()).await;
    for (text, code, word, http) in
        [("unknown", Code::NotFound, "unknown_word", 404), ("broken", Code::Unavailable, "shelf", 503)]
    {
        let status = look_up(&mut client, text).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
        let details = String::from_utf8_lossy(status.details()).into_owned();
        assert!(details.contains("google.rpc.ErrorInfo") && details.contains(word), "{details}");
        assert_eq!(details.contains("google.rpc.RetryInfo"), text == "broken", "{details}");
        assert!(!details.contains("secret") && !status.message().contains("secret"), "{status:?}");

        let answer = service.get(&format!("/words/{text}")).await.unwrap();
        assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (http, &word.into()));
        for trace_id in [trace_id(&status), answer.header("x-trace-id").to_owned()] {
            assert_eq!(access_line(&trace_id).await["error.type"], word);
        }
    }
    // The conventions of gRPC count what is the service's failure alone.
    until(&service, COUNT, &["words.v1.Words/LookUp", "error_type=\"shelf\""], 1.0).await;
    let metrics = service.metrics().await.unwrap();
    assert_eq!(
        sum(&metrics, "chassis_rejections_total", &[]),
        0.0,
        "what a handler tells is no refusal of the chassis"
    );
}

#[tokio::test]
async fn a_field_that_does_not_fit_is_an_invalid_argument_that_names_it() {
    let service = start(&Witness::new()).await;
    let status = look_up(&mut Client::connect(service.http()).await, "LOUD").await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "text: expected lower case, found \"LOUD\""));
    let details = String::from_utf8_lossy(status.details()).into_owned();
    assert!(details.contains("google.rpc.BadRequest"), "{details}");
    assert_eq!(access_line(&trace_id(&status)).await["error.type"], "invalid_request");
    until(&service, "chassis_rejections_total", &["invalid_request"], 1.0).await;
}

/// The status of a call with these bytes in place of a message.
async fn status_of(service: &TestService, bytes: &[u8], headers: &[(&'static str, &'static str)]) -> String {
    let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
    let mut connection = Connection::open(service.http()).await.unwrap();
    let mut answer = connection.call("/words.v1.Words/LookUp", bytes, headers.collect()).await.unwrap();
    match answer.next().await {
        Next::End(status) => status,
        Next::Message(message) => panic!("answered with {message:?}"),
    }
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_the_callers_mistake_and_never_comes_to_the_handler() {
    let witness = Witness::new();
    let service = start(&witness).await;
    // A field that ends too early, another type than the field's, text that is not UTF-8, a group that nobody opened.
    for bytes in [&[0x0a, 5, b'a'][..], &[0x08, 1], &[0x0a, 1, 0xff], &[0x0c]] {
        assert_eq!(status_of(&service, bytes, &[]).await, "3", "{bytes:?}");
    }
    until(&service, COUNT, &["words.v1.Words/LookUp", "\"INVALID_ARGUMENT\""], 4.0).await;
    until(&service, "chassis_rejections_total", &["invalid_request"], 4.0).await;
    assert_eq!(status_of(&service, &[], &[("grpc-encoding", "gzip")]).await, "12", "no compression is compiled in");
    assert_eq!(witness.seen(), (0, 0));
    until_nothing_is_in_flight(&service).await;
}

#[tokio::test]
async fn a_call_without_a_message_is_the_callers_mistake() {
    let service = start(&Witness::new()).await;
    let mut raw = Raw::connect(service.http()).await;
    let head = "host: a\r\ncontent-type: application/grpc-web+proto\r\ncontent-length: 0\r\n\r\n";
    raw.send(format!("POST /words.v1.Words/LookUp HTTP/1.1\r\n{head}")).await;
    assert_eq!(raw.answer().await.unwrap().header("grpc-status"), "3");
}

#[tokio::test]
async fn a_message_over_the_limit_of_its_route_or_its_service_is_refused() {
    let witness = Witness::new();
    let service = start(&witness).await;
    let mut client = Client::connect(service.http()).await;
    for (path, limit) in [("/words.v1.Words/LookUp", 1 << 20), ("/words.v1.Words/Small", 1024)] {
        // A tag and a length of up to three bytes go before the text.
        assert!(client.call(path, &"a".repeat(limit - 4), "").await.is_ok(), "{path}");
        let status = client.call(path, &"a".repeat(limit), "").await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{path}: {status:?}");
        assert!(status.message().contains(&limit.to_string()), "{status:?}");
        assert_eq!(access_line(&trace_id(&status)).await["error.type"], "payload_too_large");
    }
    assert_eq!(witness.seen().0, 2);
    until(&service, "chassis_rejections_total", &["payload_too_large"], 2.0).await;
}

#[tokio::test]
async fn a_panic_is_internal_and_the_next_call_works() {
    let service = start(&Witness::new()).await;
    let mut client = Client::connect(service.http()).await;
    let status = look_up(&mut client, "panic").await.unwrap_err();
    assert_eq!(status.code(), Code::Internal, "{status:?}");
    assert!(!status.message().contains("secret"), "{status:?}");
    assert_eq!(look_up(&mut client, "chassis").await.unwrap(), "chassis");
    until(&service, COUNT, &["INTERNAL", "error_type=\"internal\""], 1.0).await;
}

#[tokio::test]
async fn a_deadline_or_a_caller_that_goes_away_ends_the_handler() {
    let witness = Witness::new();
    let service = start(&witness).await;
    let mut client = Client::connect(service.http()).await;
    let status = client.call("/words.v1.Words/LookUp", "hang", "100m").await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    witness.ended(1).await;
    let call = tokio::spawn(async move { look_up(&mut client, "hang").await });
    witness.began(2).await;
    call.abort();
    witness.ended(2).await;
    until(&service, COUNT, &["words.v1.Words/LookUp", "CANCELLED"], 1.0).await;
}

#[tokio::test]
async fn grpc_web_reaches_a_mounted_rpc_with_its_problems_and_its_deadline() {
    let service = start(&Witness::new()).await;
    let path = "/words.v1.Words/LookUp";
    for (path, text, more, expected, error) in [
        (path, "chassis", "", "0", None),
        (path, "unknown", "", "5", Some("unknown_word")),
        (path, "LOUD", "", "3", Some("invalid_request")),
        (path, "panic", "", "13", Some("internal")),
        (path, "hang", "grpc-timeout: 100m\r\n", "4", Some("deadline_exceeded")),
        ("/words.v1.Words/NoSuchMethod", "chassis", "", "12", Some("method_not_allowed")),
    ] {
        let answer = grpc_web::call(&service, path, text, more).await;
        let (messages, status) = grpc_web::read(&answer);
        assert_eq!(status, expected, "{path} {text}");
        assert_eq!(access_line(answer.header("x-trace-id")).await["error.type"].as_str(), error);
        assert_eq!(messages, if expected == "0" { vec![word(text).encode_to_vec()] } else { vec![] });
    }
}

/// What the service says when it refuses to start.
async fn refusal(make: impl FnOnce(Chassis) -> Chassis) -> String {
    let error = TestService::start(make).await.expect_err("a refusal");
    assert_eq!(error.exit(), chassis::error::Exit::Config, "{error}");
    error.to_string()
}

/// The rpcs alone, under any name.
struct Rpcs(&'static str, u32);

impl IntoRoutes for Rpcs {
    fn into_routes(self) -> Routes {
        let words = Arc::new(Words(Witness::new()));
        let routes = (0..self.1).fold(rpcs(&words, self.0), |routes, _| {
            let info = RouteInfo::rpc(self.0, "LookUp", "another");
            routes.unary(info, shape(<dyn proto::Words>::look_up), |message: Word| async { Ok(message) })
        });
        Routes { router: Router::new(), infos: Vec::new(), grpc: Some(routes) }
    }
}

#[tokio::test]
async fn a_grpc_service_or_an_rpc_that_comes_twice_is_refused_by_name() {
    let said = refusal(|chassis| chassis.mount(Rpcs(NAME, 1))).await;
    assert!(said.contains("words.v1.Words/LookUp") && said.contains("look_up") && said.contains("another"), "{said}");
    let said = refusal(|chassis| chassis.mount(Words(Witness::new())).mount(Rpcs(NAME, 0))).await;
    assert!(said.contains("gRPC service words.v1.Words") && said.contains("Words"), "{said}");
    let said = refusal(|chassis| chassis.grpc(Echo(Witness::new())).grpc(Echo(Witness::new()))).await;
    assert!(said.contains("gRPC service test.v1.Echo"), "{said}");
    let said = refusal(|chassis| chassis.mount(Rpcs("grpc.health.v1.Health", 0))).await;
    assert!(said.contains("grpc.health.v1.Health") && said.contains("the chassis serves it itself"), "{said}");
}

/// Descriptors of `words.v1.Words` with these methods, each with a `Word`.
fn descriptors(methods: &[&str]) -> &'static [u8] {
    let text = |text: &str| Some(text.to_owned());
    let method = |name: &&str| MethodDescriptorProto {
        name: text(name),
        input_type: text(".words.v1.Word"),
        output_type: text(".words.v1.Word"),
        ..Default::default()
    };
    let field = FieldDescriptorProto {
        name: text("text"),
        number: Some(1),
        r#type: Some(9),
        label: Some(1),
        ..Default::default()
    };
    let file = FileDescriptorProto {
        name: text("words.proto"),
        package: text("words.v1"),
        syntax: text("proto3"),
        message_type: vec![DescriptorProto { name: text("Word"), field: vec![field], ..Default::default() }],
        service: vec![ServiceDescriptorProto {
            name: text("Words"),
            method: methods.iter().map(method).collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    FileDescriptorSet { file: vec![file] }.encode_to_vec().leak()
}

#[tokio::test]
async fn an_rpc_that_the_registered_descriptors_do_not_have_is_refused() {
    let said =
        refusal(|chassis| chassis.mount(Words(Witness::new())).grpc_reflection(descriptors(&["LookUp", "Smaller"])));
    let said = said.await;
    assert!(said.contains("words.v1.Words/Small") && said.contains("`#[rpc(Smaller)]`"), "{said}");
}

#[tokio::test]
async fn a_client_in_another_language_reads_the_details_of_a_problem() {
    let words = Words(Witness::new());
    let set = descriptors(&["LookUp", "Small", "NotYet"]);
    let service = TestService::start(|chassis: Chassis| chassis.mount(words).grpc_reflection(set)).await.unwrap();
    let seen = python::run("rpc.py", &[&service.http().to_string(), NAME, "LookUp", "chassis", "LOUD", "broken"]).await;
    assert_eq!(seen["chassis"], serde_json::json!({"code": "OK", "answer": {"text": "chassis"}}));
    let of = |text: &str| {
        let details = seen[text]["details"].as_object().unwrap();
        let mut details: HashMap<_, _> = details.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        details.remove("types");
        (seen[text]["code"].clone(), details)
    };
    let (code, details) = of("LOUD");
    assert_eq!((code, &details["reason"]), ("INVALID_ARGUMENT".into(), &"invalid_request".into()));
    let violation = serde_json::json!([{"field": "text", "description": "expected lower case, found \"LOUD\""}]);
    assert_eq!(details["violations"], violation);
    let (code, details) = of("broken");
    assert_eq!((code, &details["reason"]), ("UNAVAILABLE".into(), &"shelf".into()));
    assert_eq!(details["retry_seconds"], 2);
    assert_eq!(seen["unknown_method"], "UNIMPLEMENTED");
}
