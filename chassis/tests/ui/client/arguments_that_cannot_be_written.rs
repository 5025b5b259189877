use chassis::client::CallError;

#[derive(serde::Serialize, serde::Deserialize)]
pub struct Order {
    id: u64,
}

struct OrderId(u64);
struct NewOrder;

#[chassis::client]
trait OrdersApi {
    #[put("/orders/{id}")]
    async fn place(&self, id: OrderId, order: &NewOrder) -> Result<Order, CallError>;
}

fn main() {}
