use chassis::prelude::*;

#[chassis::main]
async fn main(chassis: Chassis) -> Result<(), String> {
    drop(chassis);
    Ok(())
}
