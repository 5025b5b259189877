use chassis::client::CallError;

#[derive(serde::Deserialize)]
pub struct Stock {
    count: u32,
}

#[chassis::client]
trait StockApi {
    #[get("/stock/{sku}")]
    #[fallback(unknown)]
    async fn stock(&self, sku: &str) -> Result<Stock, CallError>;

    async fn unknown(&self, _sku: &str) -> Result<u32, CallError> {
        Ok(0)
    }
}

fn main() {}
