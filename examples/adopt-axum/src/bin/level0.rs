//! Level 0, the router is mounted and `main` stays: `cargo run -p adopt-axum --bin adopt-axum-level0`, then
//! `curl localhost:8080/readyz` and `curl localhost:8081/metrics`.

use std::sync::Arc;

use adopt_axum::{BoxError, PlainStock, Settings, Shop, routes, stop_signal};
use chassis::{Chassis, config::Sources};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt().init();
    let settings = Settings::from_env();
    let shop = Arc::new(Shop::new(PlainStock::new(&settings.stock)));
    let reporting = tokio::spawn(shop.clone().report());

    let mut sources = Sources::of_process();
    sources.set.push(format!("http.address={}", settings.listen));
    let chassis: Chassis = Chassis::new(chassis::build_info!(), sources)?;
    chassis.mount(routes(shop.clone())).run_until(stop_signal()).await?;

    reporting.abort();
    shop.close().await;
    Ok(())
}
