use chassis::prelude::*;

#[chassis::main]
async fn main(chassis: Chassis) -> chassis::Result<()> {
    chassis.check("store", || async { Err::<(), _>("down") }).serve().await
}
