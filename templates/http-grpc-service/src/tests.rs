//! The whole service in the test's process, with the configuration that it ships.

use chassis::testing::TestService;
use tonic::{Code, Status};

use crate::grpc::proto::{HelloRequest, greeter_client::GreeterClient};

/// On free ports; it announces itself nowhere.
async fn started() -> TestService {
    let builder = TestService::builder().file("config/default.toml").set("discovery.register", "none");
    builder.start(crate::service).await.expect("the service starts")
}

/// Over a connection of its own.
async fn hello(service: &TestService, name: &str) -> Result<String, Status> {
    let mut greeter = GreeterClient::connect(format!("http://{}", service.http())).await.expect("a connection");
    let answer = greeter.hello(HelloRequest { name: name.to_owned() }).await?;
    Ok(answer.into_inner().text)
}

#[tokio::test]
async fn both_transports_give_the_same_answer() {
    let service = started().await;
    let answer = service.get("/hello/ada").await.expect("an answer");
    assert_eq!((answer.status.as_u16(), answer.json()["text"].as_str()), (200, Some("Hello, ada!")));
    assert_eq!(hello(&service, "ada").await.expect("an answer"), "Hello, ada!");
    service.stop().await.expect("a stop in order");
}

#[tokio::test]
async fn both_transports_refuse_a_name_that_is_too_long() {
    let service = started().await;
    let name = "a".repeat(65);
    let answer = service.get(&format!("/hello/{name}")).await.expect("an answer");
    assert_eq!((answer.status.as_u16(), answer.json()["code"].as_str()), (422, Some("name_too_long")));
    let status = hello(&service, &name).await.expect_err("a refusal");
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert_eq!(answer.json()["detail"], status.message());
    service.stop().await.expect("a stop in order");
}

#[tokio::test]
async fn both_are_counted_by_their_names() {
    let service = started().await;
    service.get("/hello/ada").await.expect("an answer");
    hello(&service, "ada").await.expect("an answer");
    let metrics = service.metrics().await.expect("the metrics");
    for name in [r#"http_route="/hello/{name}""#, "greetings.v1.Greeter/Hello"] {
        assert!(metrics.contains(name), "{name}: {metrics}");
    }
    service.stop().await.expect("a stop in order");
}
