//! Level 2, logs, metrics and traces come from the chassis: `cargo run -p adopt-axum --bin adopt-axum-level2`, then
//! `curl localhost:8080/articles/pear` and see its log lines, and `curl localhost:8081/metrics | grep shop`.

use std::{convert::Infallible, sync::Arc};

use adopt_axum::{BoxError, PlainStock, Settings, Shop, routes};
use chassis::{Chassis, config::Sources, tasks::Restart};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let settings = Settings::from_env();
    let shop = Arc::new(Shop::new(PlainStock::new(&settings.stock)));

    let mut sources = Sources::of_process();
    sources.set.push(format!("http.address={}", settings.listen));
    let chassis: Chassis = Chassis::new(chassis::build_info!(), sources)?;
    let counted = shop.clone();
    let _added = chassis
        .meter("shop")
        .u64_observable_counter("shop.articles.added")
        .with_callback(move |counter| counter.observe(counted.added(), &[]))
        .build();
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
