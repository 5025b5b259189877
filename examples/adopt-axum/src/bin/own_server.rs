//! A server of one's own behind the stack of the chassis, here `axum::serve` on a listener that counts connections; a TLS
//! acceptor has the same place: `cargo run -p adopt-axum --bin adopt-axum-own-server`, then
//! `curl -i localhost:8080/articles/pear` and `curl localhost:8081/metrics`.

use std::{net::SocketAddr, sync::Arc};

use adopt_axum::{BoxError, PlainStock, Settings, Shop, routes};
use axum::{Router, serve::ListenerExt};
use chassis::{
    Chassis,
    config::Sources,
    shutdown::{Phase, Shutdown},
};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let settings = Settings::from_env();
    let shop = Arc::new(Shop::new(PlainStock::new(&settings.stock)));
    let chassis: Chassis = Chassis::new(chassis::build_info!(), Sources::of_process())?;
    let accepted = chassis.meter("shop").u64_counter("shop.connections").build();

    // Bound before the chassis says that it is ready.
    let listener = TcpListener::bind(&settings.listen).await?;
    let address = listener.local_addr()?;
    let serve = move |routes: Router, shutdown: Shutdown| async move {
        let listener = listener.tap_io(move |_| accepted.add(1, &[]));
        // So that the access line has the caller's address.
        let routes = routes.into_make_service_with_connect_info::<SocketAddr>();
        // Not earlier: callers come for as long as they have not heard of the stop.
        let stopping = async move { shutdown.reached(Phase::Stopping).await };
        axum::serve(listener, routes).with_graceful_shutdown(stopping).await
    };
    chassis.mount(routes(shop)).own_server(address, serve).run().await?;
    Ok(())
}
