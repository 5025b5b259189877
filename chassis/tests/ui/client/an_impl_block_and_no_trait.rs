use chassis::client::CallError;

#[derive(serde::Serialize, serde::Deserialize)]
pub struct Order {
    id: u64,
}

struct OrdersApi;

#[chassis::client]
impl OrdersApi {
    #[get("/orders/{id}")]
    async fn order(&self, id: u64) -> Result<Order, CallError> {
        todo!()
    }
}

fn main() {}
