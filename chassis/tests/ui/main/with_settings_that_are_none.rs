use chassis::prelude::*;

struct Settings;

#[chassis::main]
async fn main(chassis: Chassis<Settings>) -> chassis::Result<()> {
    drop(chassis);
    Ok(())
}
