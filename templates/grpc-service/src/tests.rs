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
async fn somebody_is_greeted() {
    let service = started().await;
    assert_eq!(hello(&service, "ada").await.expect("an answer"), "Hello, ada!");
    service.stop().await.expect("a stop in order");
}

#[tokio::test]
async fn a_name_that_is_too_long_is_an_invalid_argument() {
    let service = started().await;
    let status = hello(&service, &"a".repeat(65)).await.expect_err("a refusal");
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert_eq!(status.message(), "the name has 65 characters, and at most 64 are greeted");
    service.stop().await.expect("a stop in order");
}

#[tokio::test]
async fn the_method_is_counted_by_its_name() {
    let service = started().await;
    hello(&service, "ada").await.expect("an answer");
    let metrics = service.metrics().await.expect("the metrics");
    assert!(metrics.contains("greetings.v1.Greeter/Hello"), "{metrics}");
    service.stop().await.expect("a stop in order");
}
