use chassis::prelude::*;

#[chassis::main]
async fn main() -> chassis::Result<()> {
    Ok(())
}
