use chassis::prelude::*;

struct Pager;

#[chassis::main]
async fn main(chassis: Chassis) -> chassis::Result<()> {
    chassis.observer(Pager).check("a", 5).serve().await
}
