//! The whole service in the test's process, with the configuration that it ships.

use chassis::testing::TestService;

/// On free ports; it announces itself nowhere.
async fn started() -> TestService {
    let builder = TestService::builder().file("config/default.toml").set("discovery.register", "none");
    builder.start(crate::service).await.expect("the service starts")
}

#[tokio::test]
async fn somebody_is_greeted() {
    let service = started().await;
    let answer = service.get("/hello/ada").await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["text"], "Hello, ada!");
    service.stop().await.expect("a stop in order");
}

#[tokio::test]
async fn a_name_that_is_too_long_is_a_problem_with_a_code() {
    let service = started().await;
    let answer = service.get(&format!("/hello/{}", "a".repeat(65))).await.expect("an answer");
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!((answer.json()["code"].as_str(), answer.json()["limit"].as_u64()), (Some("name_too_long"), Some(64)));
    service.stop().await.expect("a stop in order");
}

#[tokio::test]
async fn the_route_is_counted_by_its_pattern() {
    let service = started().await;
    service.get("/hello/ada").await.expect("an answer");
    let metrics = service.metrics().await.expect("the metrics");
    assert!(metrics.contains(r#"http_route="/hello/{name}""#), "{metrics}");
    service.stop().await.expect("a stop in order");
}
