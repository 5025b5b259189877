//! The first examples a newcomer starts: HTTP, gRPC, errors. Each as a process, asked as its first lines say.

use prost::Message;
use serde_json::json;
use tonic::{Code, Request, client::Grpc, transport::Endpoint};
use tonic_prost::ProstCodec;

use crate::support::{orders::send, process::Quickstart};

#[tokio::test]
async fn hello_http_greets_and_has_all_that_a_service_has() {
    let mut service = Quickstart::example("hello-http").start().await;
    let answer = service.get("/hello/ada").await;
    assert_eq!((answer.status, answer.json()), (200, json!("hello, ada")));
    for path in ["/readyz", "/docs", "/openapi.json"] {
        assert_eq!(service.get(path).await.status, 200, "{path}");
    }
    let metrics = service.operator("/metrics").await.body;
    assert!(metrics.contains("http_route=\"/hello/{name}\""), "{metrics}");
    assert_eq!(service.terminate().await, 0);
}

/// `hello.v1.SayHelloRequest` and `hello.v1.Greeting`: both are one text.
#[derive(Clone, PartialEq, Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

#[tokio::test]
async fn hello_grpc_greets_over_grpc_and_over_nothing_else() {
    let mut service = Quickstart::example("hello-grpc").start().await;
    let channel = Endpoint::from_shared(format!("http://{}", service.http)).unwrap().connect().await.unwrap();
    let mut client = Grpc::new(channel);
    let mut say = async |method: &'static str| {
        client.ready().await.unwrap();
        let request = Request::new(Text { text: "ada".to_owned() });
        client.unary::<_, Text, _>(request, method.parse().unwrap(), ProstCodec::default()).await
    };
    let greeting = say("/hello.v1.Greeter/SayHello").await.unwrap().into_inner();
    assert_eq!(greeting.text, "hello, ada");
    assert_eq!(say("/hello.v1.Greeter/SayBye").await.unwrap_err().code(), Code::Unimplemented);
    client.ready().await.unwrap();
    let request = Request::new(Text { text: "ada".to_owned() });
    let path = "/hello.v1.Choir/Sing".parse().unwrap();
    let song = client.server_streaming::<_, Text, _>(request, path, ProstCodec::default()).await.unwrap();
    let mut song = song.into_inner();
    let mut verses = Vec::new();
    while let Some(verse) = song.message().await.unwrap() {
        verses.push(verse.text);
    }
    assert_eq!(verses, ["1: hello, ada", "2: hello, ada", "3: hello, ada"]);
    assert_eq!(service.get("/hello/ada").await.status, 404);
    assert_eq!(service.terminate().await, 0);
}

#[tokio::test]
async fn errors_problem_json_tells_callers_what_the_types_say_and_no_more() {
    let mut service = Quickstart::example("errors-problem-json").start().await;
    assert_eq!(service.get("/books/1").await.status, 200);

    let unknown = service.get("/books/2").await;
    assert_eq!((unknown.status, unknown.header("content-type")), (404, "application/problem+json"));
    let problem = unknown.json();
    assert_eq!((&problem["code"], &problem["isbn"]), (&json!("unknown_book"), &json!("2")), "{problem}");
    assert_eq!(problem["trace_id"], unknown.header("x-trace-id"));

    let hours = service.get("/hours").await;
    assert_eq!((hours.status, hours.header("retry-after")), (503, "2"));
    assert!(!hours.body.contains("opening-hours.txt"), "told to callers: {}", hours.body);
    let line = service.process.says("opening-hours.txt").await;
    assert!(line.contains(hours.header("x-trace-id")) && line.contains("No such file"), "{line}");

    let post = async |body| send(service.http, "POST", "/books", Some(&body)).await;
    let wrong = post(json!({"isbn": "1", "title": "", "year": 99})).await;
    let violations = wrong.json()["violations"].take();
    let places: Vec<_> = violations.as_array().unwrap().iter().map(|violation| &violation["pointer"]).collect();
    assert_eq!((wrong.status, places), (422, vec![&json!("/title"), &json!("/year")]), "{violations}");
    let known = post(json!({"isbn": "1", "title": "Another", "year": 1990})).await;
    assert_eq!((known.status, &known.json()["code"]), (409, &json!("book_exists")));
    assert_eq!(post(json!({"isbn": "3", "title": "Another", "year": 1990})).await.status, 201);
    assert_eq!(service.terminate().await, 0);
}
