//! One name for the instance in every outlet, whoever gave it.

use chassis::{Chassis, testing::TestService};

async fn name_of(env: &[(&str, &str)]) -> serde_json::Value {
    let builder = env.iter().fold(TestService::builder(), |builder, (name, value)| builder.env(name, *value));
    let service = builder.start(|chassis: Chassis| chassis).await.unwrap();
    let info = service.operator("/info").await.unwrap().json();
    let metrics = service.metrics().await.unwrap();
    let target = metrics.lines().find(|line| line.starts_with("target_info{")).unwrap();
    let name = info["service"].as_str().unwrap();
    assert!(target.contains(&format!("service_name=\"{name}\"")), "{name}: {target}");
    service.stop().await.unwrap();
    info["service"].clone()
}

#[tokio::test]
async fn the_configured_name_goes_before_the_standard_variables_in_every_outlet() {
    let (attributes, standard, own) = (
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=attribute,team=a"),
        ("OTEL_SERVICE_NAME", "standard"),
        ("CHASSIS_SERVICE__NAME", "own"),
    );
    assert_eq!(name_of(&[]).await, "service-under-test");
    assert_eq!(name_of(&[attributes]).await, "attribute");
    assert_eq!(name_of(&[attributes, standard]).await, "standard");
    assert_eq!(name_of(&[attributes, standard, own]).await, "own");
}
