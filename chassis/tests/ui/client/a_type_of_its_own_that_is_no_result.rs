#[derive(serde::Serialize, serde::Deserialize)]
pub struct Order {
    id: u64,
}

#[chassis::client]
trait OrdersApi {
    #[get("/orders/{id}")]
    async fn order(&self, id: u64) -> Order;
}

fn main() {}
