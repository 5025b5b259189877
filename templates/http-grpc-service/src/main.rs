//! `cargo run`, then `curl localhost:8080/hello/ada` or `cargo run --example call -- ada`.
//! `cargo run -- --help` tells what else the program does.

mod api;
mod domain;
mod grpc;
mod settings;
#[cfg(test)]
mod tests;

use chassis::Chassis;

use crate::{api::Greeter, settings::Settings};

#[chassis::main]
async fn main(chassis: Chassis<Settings>) -> chassis::Result<()> {
    service(chassis).await?.serve().await
}

/// All that the service is made of; the tests start the same. A client (`chassis.client("rates")?`) and a pool (`.await?`)
/// are made here.
async fn service(chassis: Chassis<Settings>) -> chassis::Result<Chassis<Settings>> {
    let greeter = Greeter::new(chassis.settings_watch());
    Ok(chassis.mount(greeter).grpc_reflection(grpc::FILE_DESCRIPTOR_SET))
}
