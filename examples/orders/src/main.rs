//! Orders in a database: `cargo run -p orders`. `README.md` shows it.
//!
//! HTTP and gRPC are on port 8080, operators on 8081.

mod api;
mod domain;
mod grpc;
mod settings;
mod store;

use std::time::Duration;

use chassis::{
    Chassis, Error,
    tasks::{Backoff, Policy, Restart},
};
use domain::Orders;
use jiff::Timestamp;
use settings::Settings;
use store::SqlStore;

#[chassis::main]
async fn main(chassis: Chassis<Settings>) -> chassis::Result<()> {
    let settings = &chassis.settings().store;
    if SqlStore::is_in_memory(settings) {
        forgets(&chassis.identity().environment)?;
    }
    let store = SqlStore::new(settings, &chassis.meter("orders"))
        .map_err(|error| Error::config("app.store.url: found no URL of SQLite or PostgreSQL").caused_by(error))?;
    // A store that comes back is taken up again at once.
    let again = Policy {
        backoff: Backoff { longest: Duration::from_secs(5), ..Backoff::default() },
        ..Restart::OnFailure.into()
    };
    let (migrated, pinged, closed) = (store.clone(), store.clone(), store.clone());
    chassis
        .mount(Orders::new(store, Timestamp::now))
        .grpc_reflection(grpc::FILE_DESCRIPTOR_SET)
        // Tried until it works: the service may start before its database, and is not ready until then.
        .background("store-migrations", again, move |_stop| {
            let store = migrated.clone();
            async move { store.migrate().await }
        })
        .check("store", move || {
            let store = pinged.clone();
            async move { store.ping().await }
        })
        .on_shutdown("store", move || closed.close())
        .serve()
        .await
}

/// A store that forgets is for trying things out.
fn forgets(profile: &str) -> chassis::Result<()> {
    if profile == "dev" {
        tracing::warn!(
            "orders are kept in memory and gone with this process; app.store.url names a place that keeps them"
        );
        return Ok(());
    }
    Err(Error::config(format!(
        "app.store.url: found a store in memory in the profile {profile}, where orders must outlive the process; \
         expected \"sqlite:orders.db?mode=rwc\" or \"postgres://…\""
    )))
}
