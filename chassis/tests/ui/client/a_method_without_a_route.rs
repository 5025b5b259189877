use chassis::client::CallError;

#[derive(serde::Serialize, serde::Deserialize)]
pub struct Order {
    id: u64,
}

#[chassis::client]
trait OrdersApi {
    async fn order(&self, id: u64) -> Result<Order, CallError>;
}

fn main() {}
