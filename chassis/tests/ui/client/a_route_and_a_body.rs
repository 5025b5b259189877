use chassis::client::CallError;

#[derive(serde::Serialize, serde::Deserialize)]
pub struct Order {
    id: u64,
}

#[chassis::client]
trait OrdersApi {
    #[get("/orders/{id}")]
    async fn order(&self, id: u64) -> Result<Order, CallError> {
        Ok(Order { id })
    }
}

fn main() {}
