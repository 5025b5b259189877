use chassis::client::CallError;

#[derive(serde::Serialize, serde::Deserialize)]
pub struct Order {
    id: u64,
}

#[chassis::client]
trait OrdersApi {
    #[get("/orders/{id}")]
    async fn order(&self, order: &str) -> Result<Order, CallError>;

    #[post("/orders")]
    async fn place(&self, order: Order, note: String) -> Result<Order, CallError>;

    #[get("/orders")]
    async fn orders(&self, #[extract] headers: http::HeaderMap) -> Result<Vec<Order>, CallError>;
}

fn main() {}
