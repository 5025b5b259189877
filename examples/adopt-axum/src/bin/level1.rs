//! Level 1, health and drain are handed over: `cargo run -p adopt-axum --bin adopt-axum-level1`, then
//! `curl 'localhost:8080/readyz?verbose'`.

use std::{convert::Infallible, sync::Arc};

use adopt_axum::{BoxError, PlainStock, Settings, Shop, routes};
use chassis::{Chassis, config::Sources, tasks::Restart};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt().init();
    let settings = Settings::from_env();
    let shop = Arc::new(Shop::new(PlainStock::new(&settings.stock)));

    let mut sources = Sources::of_process();
    sources.set.push(format!("http.address={}", settings.listen));
    let chassis: Chassis = Chassis::new(chassis::build_info!(), sources)?;
    let (pinged, reporting, closed) = (shop.clone(), shop.clone(), shop.clone());
    chassis
        .mount(routes(shop))
        .check("shop", move || {
            let shop = pinged.clone();
            async move { shop.ping().await }
        })
        .background("report", Restart::OnFailure, move |stop| {
            let shop = reporting.clone();
            async move {
                stop.run_until_cancelled(shop.report()).await;
                Ok::<_, Infallible>(())
            }
        })
        .on_shutdown("shop", move || async move { closed.close().await })
        .run()
        .await?;
    Ok(())
}
