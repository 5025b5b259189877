//! A shop that asks the inventory, over HTTP and gRPC:
//! `cargo run -p storefront -- --config examples/storefront/config/default.toml --config examples/storefront/config/one-process.toml`.
//!
//! `examples/README.md` walks through it, with Consul and without.

mod shop;
mod stock;

use chassis::Chassis;
use inventory::{Inventory, Mood};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shop::Storefront;

/// The service's own settings: the section `[app]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Whether the inventory runs in this process too, for trying things out.
    with_inventory: bool,
}

#[chassis::main]
async fn main(chassis: Chassis<Settings>) -> chassis::Result<()> {
    service(chassis)?.serve().await
}

/// All that the service is made of; the tests start the same.
fn service(chassis: Chassis<Settings>) -> chassis::Result<Chassis<Settings>> {
    let storefront = Storefront::new(&chassis)?;
    if chassis.settings().with_inventory {
        let inventory = Inventory::new(&chassis.identity().instance_id, Mood::default);
        return Ok(chassis.mount(storefront).mount(inventory));
    }
    Ok(chassis.mount(storefront))
}
