//! Level 0, the tonic server is mounted and `main` stays: `cargo run -p adopt-tonic --bin adopt-tonic-level0`, then
//! `grpcurl -plaintext localhost:8080 list` and `curl localhost:8081/metrics`.

use std::sync::Arc;

use adopt_tonic::{
    BoxError, Catalogue, FILE_DESCRIPTOR_SET, GrpcStock, Settings, Shop, inventory::inventory_client::InventoryClient,
    plain_channel, proto::catalogue_server::CatalogueServer, stop_signal,
};
use chassis::{Chassis, config::Sources};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt().init();
    let settings = Settings::from_env();
    let inventory = InventoryClient::new(plain_channel(&settings.stock)?);
    let shop = Arc::new(Shop::new(GrpcStock(inventory)));
    let catalogue = CatalogueServer::new(Catalogue(shop.clone()));
    let reporting = tokio::spawn(shop.clone().report());

    let mut sources = Sources::of_process();
    sources.set.push(format!("http.address={}", settings.listen));
    let chassis: Chassis = Chassis::new(chassis::build_info!(), sources)?;
    chassis.grpc(catalogue).grpc_reflection(FILE_DESCRIPTOR_SET).run_until(stop_signal()).await?;

    reporting.abort();
    shop.close().await;
    Ok(())
}
