//! How do I say that my service is well? `cd examples/custom-health-check && cargo run -p custom-health-check`, then
//! `curl 'localhost:8080/readyz?verbose'`.
//!
//! The service reads two files. Without `prices.txt` it can do nothing, so that check is critical: when it is down,
//! `/readyz` is 503 and traffic goes elsewhere. Without `discounts.txt` customers pay the full price: that check is shown as
//! down, and the service stays ready. An empty `prices.txt` is degraded: it works, and somebody should look. `/livez` looks
//! at no check, as a restart would bring no file back.
//!
//! `mv discounts.txt away`, and look at `/readyz?verbose`; `mv prices.txt gone`, and look again; bring them back. The
//! messages are for operators: `curl localhost:8081/health`.
//!
//! Try next: start the service without `prices.txt`: it has started (`/startupz`), and is not ready. Leave out
//! `failures_to_fall(1)`: by default a check falls at its third failure in a row. Code that knows how things are, such as a
//! consumer of a queue, reports by itself: `chassis.health().reporter("queue", Criticality::Critical)`.

use std::time::Duration;

use chassis::{
    health::{CheckError, CheckOptions},
    prelude::*,
};
use tokio::fs::read_to_string;

const PRICES: &str = "prices.txt";
const DISCOUNTS: &str = "discounts.txt";

/// Any error is down.
async fn discounts() -> std::io::Result<()> {
    read_to_string(DISCOUNTS).await.map(drop)
}

async fn prices() -> Result<(), CheckError> {
    match read_to_string(PRICES).await?.trim() {
        "" => Err(CheckError::degraded("there are no prices")),
        _ => Ok(()),
    }
}

struct Shop;

#[service]
impl Shop {
    /// All prices.
    #[get("/prices")]
    async fn prices(&self) -> String {
        read_to_string(PRICES).await.unwrap_or_default()
    }
}

#[chassis::main]
async fn main(chassis: Chassis) -> chassis::Result<()> {
    // Quicker than the defaults, so that you see it at once.
    let quick = CheckOptions::default().interval(Duration::from_millis(200)).failures_to_fall(1).successes_to_rise(1);
    chassis
        .mount(Shop)
        .check_with("prices", quick.clone(), prices)
        .check_with("discounts", quick.not_critical(), discounts)
        .serve()
        .await
}
