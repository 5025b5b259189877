use chassis::prelude::*;

#[chassis::main(worker_threads = 4)]
async fn main(chassis: Chassis) -> chassis::Result<()> {
    chassis.serve().await
}
