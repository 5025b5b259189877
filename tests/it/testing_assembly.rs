//! `TestService::start` takes the function that `main` calls, whatever its form: plain, fallible, `async`.

use std::io;

use chassis::{Chassis, error::Exit, prelude::*, testing::TestService};

#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    greeting: String,
}

struct Hello(String);

#[service]
impl Hello {
    /// Greets.
    #[get("/hello")]
    async fn hello(&self) -> String {
        self.0.clone()
    }
}

fn hello<S>(chassis: Chassis<S>) -> Chassis<S>
where
    S: serde::de::DeserializeOwned + schemars::JsonSchema + Send + Sync + 'static,
{
    chassis.mount(Hello("hello".to_owned()))
}

fn with_a_client(chassis: Chassis) -> chassis::Result<Chassis> {
    chassis.client("stock")?;
    Ok(hello(chassis))
}

async fn with_a_pool(chassis: Chassis<Settings>) -> chassis::Result<Chassis<Settings>> {
    let pool = async { Ok::<_, io::Error>(chassis.settings().greeting.clone()) }.await?;
    Ok(chassis.mount(Hello(pool)))
}

async fn answers(service: chassis::Result<TestService>, text: &str) {
    let service = service.unwrap();
    assert_eq!(service.get("/hello").await.unwrap().json(), text);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn every_form_of_assembly_starts() {
    let stock = || TestService::builder().set("clients.stock.target", "memory://stock");
    answers(TestService::start(hello).await, "hello").await;
    answers(stock().start(with_a_client).await, "hello").await;
    answers(TestService::builder().set("app.greeting", "moin").start(with_a_pool).await, "moin").await;
    answers(TestService::start(|chassis: Chassis| hello(chassis)).await, "hello").await;
    answers(stock().start(|chassis: Chassis| with_a_client(chassis)).await, "hello").await;
    answers(TestService::start(|chassis: Chassis| async move { hello(chassis) }).await, "hello").await;
    let fallible = |chassis: Chassis| async move { Ok::<_, io::Error>(hello(chassis)) };
    answers(TestService::start(fallible).await, "hello").await;
}

#[tokio::test]
async fn what_the_assembly_fails_with_fails_the_start() {
    let refused = TestService::start(with_a_client).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.exit(), Exit::Config);
    assert!(refused.to_string().contains("clients.stock: not set"), "{refused}");
    let away = |_: Chassis| async { Err::<Chassis, _>(io::Error::other("the pool is away")) };
    let refused = TestService::start(away).await.map(|_| ()).unwrap_err();
    assert_eq!((refused.exit(), refused.to_string().as_str()), (Exit::Internal, "the pool is away"));
}
