use chassis::prelude::*;

struct Orders;

async fn start(chassis: Chassis) -> chassis::Result<()> {
    chassis.mount(Orders).serve().await
}

fn main() {}
