use chassis::prelude::*;

#[chassis::main]
async fn main() -> chassis::Result<()> {
    let _: Option<Chassis> = None;
    Ok(())
}
