use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[get("/orders")]
    async fn orders(&self) -> Result<u64, String> {
        Ok(7)
    }

    #[get("/items")]
    async fn items(&self) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
        Ok(7)
    }
}

fn main() {}
