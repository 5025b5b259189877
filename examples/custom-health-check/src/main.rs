//! How do I say that my service is well? `cd examples/custom-health-check && cargo run -p custom-health-check`, then
//! `curl 'localhost:8080/readyz?verbose'`.
//!
//! The service reads two files. Without `prices.txt` it can do nothing, so that check is critical: when it is down,
//! `/readyz` is 503 and traffic goes elsewhere. Without `discounts.txt` customers pay the full price; that check is shown, and
//! changes nothing. `/livez` looks at no check: a restart would bring no file back.
//!
//! `mv discounts.txt away`, look at `/readyz?verbose`; `mv prices.txt away`, look again; and bring them back. The messages are
//! for operators: `curl localhost:8081/health`.
//!
//! Try next: start the service while `prices.txt` is away, and `curl localhost:8080/startupz`. Leave out `failures_to_fall`:
//! by default a check falls at its third failure in a row. Somebody who knows reports by `chassis.health().reporter(…)`.

use std::time::Duration;

use chassis::{
    health::{CheckError, CheckOptions},
    prelude::*,
};
use tokio::fs::read_to_string;

const PRICES: &str = "prices.txt";
const DISCOUNTS: &str = "discounts.txt";

/// It does not work: down.
async fn prices() -> Result<(), CheckError> {
    read_to_string(PRICES).await?;
    Ok(())
}

/// It works, but somebody should look: degraded.
async fn discounts() -> Result<(), CheckError> {
    match read_to_string(DISCOUNTS).await {
        Ok(_) => Ok(()),
        Err(error) => Err(CheckError::degraded(format!("customers pay the full price: {error}"))),
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
