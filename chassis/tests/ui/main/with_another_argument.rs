#[chassis::main]
async fn main(settings: String) -> chassis::Result<()> {
    drop(settings);
    Ok(())
}
