#[derive(serde::Serialize, serde::Deserialize)]
pub struct Order {
    id: u64,
}

#[chassis::client]
trait OrdersApi {
    #[get("/orders/{id}")]
    async fn order(&self, id: u64) -> Option<Order>;

    #[delete("/orders/{id}")]
    async fn cancel(&self, id: u64);
}

fn main() {}
