use chassis::client::CallError;

#[derive(serde::Serialize, serde::Deserialize)]
pub struct Order {
    id: u64,
}

#[chassis::client]
trait OrdersApi<T> {
    #[get("/orders/{id}")]
    async fn order(&self, id: u64) -> Result<T, CallError>;
}

fn main() {}
