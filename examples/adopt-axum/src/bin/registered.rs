//! Level 3 with a registry: it finds the inventory in Consul, and is found there:
//! `cargo run -p adopt-axum --bin adopt-axum-registered`, with `consul agent -dev` and an inventory that registers, then
//! `curl localhost:8080/articles/pear/stock`.

use std::{convert::Infallible, sync::Arc};

use adopt_axum::{BoxError, Count, Settings, Shop, Stock, routes};
use chassis::{Chassis, client::CallError, config::Sources, tasks::Restart};

/// The inventory, as this service asks it.
#[chassis::client]
trait StockApi: Send + Sync {
    #[get("/stock/{sku}", timeout = "1s")]
    async fn stock(&self, sku: &str) -> Result<Count, CallError>;
}

impl Stock for StockApiClient {
    async fn count(&self, sku: &str) -> Result<u32, BoxError> {
        Ok(self.stock(sku).await?.count)
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let settings = Settings::from_env();

    let mut sources = Sources::of_process();
    sources.set.push(format!("http.address={}", settings.listen));
    sources.set.push("clients.inventory.target=consul://inventory".to_owned());
    sources.set.push("discovery.register=consul".to_owned());
    let chassis: Chassis = Chassis::new(chassis::build_info!(), sources)?;
    let shop = Arc::new(Shop::new(StockApiClient::new(chassis.client("inventory")?)));
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
