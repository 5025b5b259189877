use chassis::client::CallError;

#[derive(serde::Deserialize)]
pub struct Stock {
    count: u32,
}

#[chassis::client]
trait StockApi {
    #[get("/stock/{sku}")]
    #[fallback(unknwon)]
    async fn stock(&self, sku: &str) -> Result<Stock, CallError>;

    #[get("/near/{sku}")]
    #[fallback(here)]
    async fn near(&self, sku: &str) -> Result<Stock, CallError>;

    #[get("/far/{sku}")]
    #[fallback("unknown")]
    async fn far(&self, sku: &str) -> Result<Stock, CallError>;

    async fn unknown(&self, _sku: &str) -> Result<Stock, CallError> {
        Ok(Stock { count: 0 })
    }

    fn here(&self) -> Result<Stock, CallError> {
        Ok(Stock { count: 0 })
    }
}

fn main() {}
