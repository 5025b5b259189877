use axum::{Router, extract::State, routing::get};
use chassis::prelude::*;

#[derive(Clone)]
struct Db;

#[chassis::main]
async fn main(chassis: Chassis) -> chassis::Result<()> {
    let routes: Router<Db> = Router::new().route("/orders", get(|State(_): State<Db>| async { "7" }));
    chassis.mount(routes).serve().await
}
