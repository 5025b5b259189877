//! The service as it was, without the chassis: `cargo run -p adopt-tonic --bin adopt-tonic-plain`, then
//! `grpcurl -plaintext -import-path examples/adopt-tonic/proto -proto catalogue/v1/catalogue.proto -d '{"sku": "pear"}'
//! localhost:8080 catalogue.v1.Catalogue/GetArticle`.

use std::sync::Arc;

use adopt_tonic::{
    BoxError, Catalogue, GrpcStock, Settings, Shop, inventory::inventory_client::InventoryClient, plain_channel,
    proto::catalogue_server::CatalogueServer, stop_signal,
};
use tonic::transport::{Server, server::TcpIncoming};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt().init();
    let settings = Settings::from_env();
    let inventory = InventoryClient::new(plain_channel(&settings.stock)?);
    let shop = Arc::new(Shop::new(GrpcStock(inventory)));
    let catalogue = CatalogueServer::new(Catalogue(shop.clone()));
    let reporting = tokio::spawn(shop.clone().report());

    let incoming = TcpIncoming::bind(settings.listen.parse()?)?;
    tracing::info!(http = %incoming.local_addr()?, "serving");
    Server::builder().add_service(catalogue).serve_with_incoming_shutdown(incoming, stop_signal()).await?;

    reporting.abort();
    shop.close().await;
    Ok(())
}
