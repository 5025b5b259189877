//! Five ways, the cheapest first.

use std::time::Duration;

use chassis::{
    client::Client,
    testing::{OtlpReceiver, TestService, log_lines_of},
};

use super::*;
use crate::rates::Rate;

/// A stand-in for the other service: an `async fn` implements the trait.
struct Fixed(u64);

impl RatesApi for Fixed {
    async fn rate(&self, _currency: &str) -> Result<Rate, CallError> {
        Ok(Rate { thousandths: self.0 })
    }
}

#[test]
fn a_plain_function_needs_nothing() {
    assert_eq!((cents("pear"), cents("fig")), (Some(120), None));
}

#[tokio::test]
async fn a_method_is_called_as_one() {
    let told = opentelemetry::global::meter("test").u64_counter("unused").build();
    let prices = Prices { rates: Fixed(1_100), told };
    assert_eq!(prices.price("pear".to_owned(), "usd".to_owned()).await.unwrap(), Some(132));
}

#[tokio::test]
async fn the_whole_service_answers_counts_and_logs() {
    let service = TestService::start(|chassis: Chassis| prices(chassis, Fixed(1_100))).await.unwrap();
    let answer = service.get("/prices/pear/usd").await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.json()), (200, 132.into()));
    let metrics = service.metrics().await.unwrap();
    assert!(metrics.contains("prices_told_total 1\n"), "{metrics}");
    // Lines of all services of the process are together; the trace id tells them apart.
    let lines = log_lines_of(answer.header("x-trace-id"));
    assert!(lines.iter().any(|line| line["message"] == "a price is told" && line["sku"] == "pear"), "{lines:?}");
    service.stop().await.unwrap();
}

#[tokio::test]
async fn what_the_service_exports_is_seen_as_a_collector_sees_it() {
    let receiver = OtlpReceiver::start().await.unwrap();
    let builder = TestService::builder().export_to(&receiver);
    let service = builder.start(|chassis: Chassis| prices(chassis, Fixed(1_100))).await.unwrap();
    service.get("/prices/pear/usd").await.unwrap();
    // The stop sends what is left.
    service.stop().await.unwrap();
    let spans = receiver.wait_for_spans(1, Duration::from_secs(60)).await;
    assert_eq!(spans[0].name, "GET /prices/{sku}/{currency}");
    assert_eq!(spans[0].attributes["http.response.status_code"], 200);
}

/// The other service, with a fault: it is there, and fails for some.
struct Rates;

#[derive(Debug, thiserror::Error, Problem)]
#[error("the bank is closed")]
#[problem(unavailable, retry_after = "7s")]
struct Closed;

#[service]
impl Rates {
    #[get("/rates/{currency}")]
    async fn rate(&self, currency: String) -> Result<Rate, Closed> {
        if currency == "usd" { Ok(Rate { thousandths: 1_100 }) } else { Err(Closed) }
    }
}

#[tokio::test]
async fn the_caller_hears_of_a_fault_of_the_other_service() {
    let other = TestService::start(|chassis: Chassis| chassis.mount(Rates)).await.unwrap();
    // A plain client. The stack of `[clients.rates]` is made by `chassis.client("rates")`, with
    // `TestService::builder().set("clients.rates.target", …)`.
    let rates = RatesApiClient::new(Client::new(&format!("http://{}", other.http())).unwrap());
    let service = TestService::start(|chassis: Chassis| prices(chassis, rates)).await.unwrap();
    assert_eq!(service.get("/prices/pear/usd").await.unwrap().json(), 132);
    let refused = service.get("/prices/pear/gbp").await.unwrap();
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "7"));
    other.stop().await.unwrap();
    let gone = service.get("/prices/pear/usd").await.unwrap();
    assert_eq!((gone.status.as_u16(), gone.json()["code"].as_str()), (503, Some("no_endpoints")));
    service.stop().await.unwrap();
}
