use chassis::prelude::*;

struct Order {
    id: u64,
}

struct Orders;

#[service]
impl Orders {
    #[get("/orders")]
    async fn orders(&self) -> Result<Order, Problem> {
        Ok(Order { id: 7 })
    }
}

fn main() {}
