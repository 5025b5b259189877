use chassis::prelude::*;

#[chassis::main]
async fn main(chassis: Chassis) {
    let _ = chassis.serve().await;
}
