use chassis::prelude::*;

#[chassis::main]
async fn run(chassis: Chassis) -> chassis::Result<()> {
    chassis.serve().await
}

fn main() {}
