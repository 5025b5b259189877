use chassis::client::CallError;

#[derive(serde::Serialize, serde::Deserialize)]
pub struct Order {
    id: u64,
}

#[chassis::client(version = "v1", grpc = orders::Orders)]
trait OrdersApi {
    #[get("/orders/{id}", concurrency = 10, timeout = "2", timout = "2s")]
    async fn order(&self, id: u64) -> Result<Order, CallError>;
}

fn main() {}
