use chassis::client::CallError;

#[derive(serde::Serialize, serde::Deserialize)]
pub struct Order {
    id: u64,
}

struct Receipt;

#[chassis::client]
trait OrdersApi {
    #[get("/orders/{id}/receipt")]
    async fn receipt(&self, id: u64) -> Result<Receipt, CallError>;
}

fn main() {}
