use chassis::client::CallError;

#[derive(serde::Serialize, serde::Deserialize)]
pub struct Order {
    id: u64,
}

#[chassis::client]
trait OrdersApi {
    #[get(timeout = "2s")]
    async fn orders(&self) -> Result<Vec<Order>, CallError>;

    #[get("orders/{id")]
    async fn order(&self, id: u64) -> Result<Order, CallError>;
}

fn main() {}
