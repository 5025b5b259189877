//! The service as it was, without the chassis: `cargo run -p adopt-axum --bin adopt-axum-plain`, then
//! `curl localhost:8080/articles/pear`.

use std::sync::Arc;

use adopt_axum::{BoxError, PlainStock, Settings, Shop, routes, stop_signal};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt().init();
    let settings = Settings::from_env();
    let shop = Arc::new(Shop::new(PlainStock::new(&settings.stock)));
    let reporting = tokio::spawn(shop.clone().report());

    let listener = tokio::net::TcpListener::bind(&settings.listen).await?;
    tracing::info!(http = %listener.local_addr()?, "serving");
    axum::serve(listener, routes(shop.clone())).with_graceful_shutdown(stop_signal()).await?;

    reporting.abort();
    shop.close().await;
    Ok(())
}
