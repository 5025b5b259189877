//! What is in stock, over HTTP and gRPC on one port:
//! `cargo run -p inventory -- --config examples/inventory/config/default.toml --config examples/inventory/config/alone.toml`.
//!
//! `examples/README.md` walks through it, with Consul and without.

use chassis::Chassis;
use inventory::{Inventory, Mood};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The service's own settings: the section `[app]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// How this instance feels. It may change while the service runs.
    #[schemars(extend("x-reloadable" = true))]
    mood: Mood,
}

#[chassis::main]
async fn main(chassis: Chassis<Settings>) -> chassis::Result<()> {
    let settings = chassis.settings_watch();
    let inventory = Inventory::new(&chassis.identity().instance_id, move || settings.borrow().mood);
    chassis.mount(inventory).grpc_reflection(inventory::FILE_DESCRIPTOR_SET).serve().await
}
