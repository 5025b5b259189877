//! Level 3, the inventory is called through the chassis: `cargo run -p adopt-tonic --bin adopt-tonic-level3`, then
//! `grpcurl -plaintext -d '{"sku": "pear"}' localhost:8080 catalogue.v1.Catalogue/GetCount` and
//! `curl localhost:8081/admin/dependencies`.

use std::{convert::Infallible, sync::Arc};

use adopt_tonic::{
    BoxError, Catalogue, FILE_DESCRIPTOR_SET, GrpcStock, Settings, Shop, inventory::inventory_client::InventoryClient,
    proto::catalogue_server::CatalogueServer,
};
use chassis::{Chassis, config::Sources, tasks::Restart};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let settings = Settings::from_env();

    let mut sources = Sources::of_process();
    sources.set.push(format!("http.address={}", settings.listen));
    sources.set.push(format!("clients.inventory.target=static://{}", settings.stock));
    sources.set.push("clients.inventory.idempotent=[\"inventory.v1.Inventory/GetStock\"]".to_owned());
    let chassis: Chassis = Chassis::new(chassis::build_info!(), sources)?;
    let inventory = InventoryClient::new(chassis.channel("inventory")?);
    let shop = Arc::new(Shop::new(GrpcStock(inventory)));
    let catalogue = CatalogueServer::new(Catalogue(shop.clone()));
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
