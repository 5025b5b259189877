#[derive(serde::Serialize, serde::Deserialize)]
pub struct Order {
    id: u64,
}

#[derive(Debug)]
struct ShopError;

impl From<ShopError> for Order {
    fn from(_: ShopError) -> Self {
        Order { id: 0 }
    }
}

#[chassis::client]
trait OrdersApi {
    #[get("/orders/{id}")]
    async fn order(&self, id: u64) -> Result<Order, ShopError>;
}

fn main() {}
