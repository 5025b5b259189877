use chassis::prelude::*;

#[chassis::main]
fn main(chassis: Chassis) -> chassis::Result<()> {
    drop(chassis);
    Ok(())
}
