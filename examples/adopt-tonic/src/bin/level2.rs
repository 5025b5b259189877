//! Level 2, logs, metrics and traces come from the chassis: `cargo run -p adopt-tonic --bin adopt-tonic-level2`, then
//! call it, see its log lines, and `curl localhost:8081/metrics | grep -e shop -e rpc_server`.

use std::{convert::Infallible, sync::Arc};

use adopt_tonic::{
    BoxError, Catalogue, FILE_DESCRIPTOR_SET, GrpcStock, Settings, Shop, inventory::inventory_client::InventoryClient,
    plain_channel, proto::catalogue_server::CatalogueServer,
};
use chassis::{Chassis, config::Sources, tasks::Restart};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let settings = Settings::from_env();
    let inventory = InventoryClient::new(plain_channel(&settings.stock)?);
    let shop = Arc::new(Shop::new(GrpcStock(inventory)));
    let catalogue = CatalogueServer::new(Catalogue(shop.clone()));

    let mut sources = Sources::of_process();
    sources.set.push(format!("http.address={}", settings.listen));
    let chassis: Chassis = Chassis::new(chassis::build_info!(), sources)?;
    let counted = shop.clone();
    let _added = chassis
        .meter("shop")
        .u64_observable_counter("shop.articles.added")
        .with_callback(move |counter| counter.observe(counted.added(), &[]))
        .build();
    let (pinged, reporting, closed) = (shop.clone(), shop.clone(), shop);
    chassis
        .grpc(catalogue)
        .grpc_reflection(FILE_DESCRIPTOR_SET)
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
