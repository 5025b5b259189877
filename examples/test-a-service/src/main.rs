//! How do I test it? `cargo test -p test-a-service`, and read `tests.rs`: the tests are the example.
//!
//! The service tells prices in other currencies and asks another service for the rates. From the cheapest test to the
//! dearest: a plain function; a method with a stand-in for the other service; the whole service in the test's process, with
//! its settings, metrics, log lines and spans; and the other service failing for real, over a socket.
//!
//! Try next: break something here, such as the `* rate`, and see which tests find it. To run the service itself it needs the
//! other one: `cargo run -p test-a-service -- --set clients.rates.target=http://localhost:9000`.

mod rates;
#[cfg(test)]
mod tests;

use chassis::{client::CallError, prelude::*};
use opentelemetry::metrics::Counter;
use rates::{RatesApi, RatesApiClient};

/// The service; `R` is whoever knows the rates.
struct Prices<R> {
    rates: R,
    told: Counter<u64>,
}

#[service]
impl<R: RatesApi + 'static> Prices<R> {
    /// What an article costs, in cents of this currency.
    #[get("/prices/{sku}/{currency}")]
    async fn price(&self, sku: String, currency: String) -> Result<Option<u64>, CallError> {
        let rate = self.rates.rate(&currency).await?.thousandths;
        self.told.add(1, &[]);
        tracing::info!(sku, "a price is told");
        Ok(cents(&sku).map(|cents| cents * rate / 1_000))
    }
}

/// In euro.
fn cents(sku: &str) -> Option<u64> {
    match sku {
        "pear" => Some(120),
        _ => None,
    }
}

#[chassis::main]
async fn main(chassis: Chassis) -> chassis::Result<()> {
    let rates = RatesApiClient::new(chassis.client("rates")?);
    prices(chassis, rates).serve().await
}

/// The service put together, for `main` and for the tests.
fn prices(chassis: Chassis, rates: impl RatesApi + 'static) -> Chassis {
    let told = chassis.meter("prices").u64_counter("prices.told").build();
    chassis.mount(Prices { rates, told })
}
