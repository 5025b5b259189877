use chassis::client::CallError;

#[derive(serde::Serialize, serde::Deserialize)]
pub struct Order {
    id: u64,
}

#[chassis::client]
trait OrdersApi {
    #[get("/orders/{id}")]
    fn order<T>(id: T) -> Result<Order, CallError>;

    #[get("/orders")]
    async fn orders(&mut self) -> Result<Vec<Order>, CallError>;
}

fn main() {}
