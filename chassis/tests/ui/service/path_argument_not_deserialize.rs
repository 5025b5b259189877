use chassis::prelude::*;

struct OrderId(u64);

struct Orders;

#[service]
impl Orders {
    #[get("/orders/{id}")]
    async fn order(&self, id: OrderId) -> u64 {
        id.0
    }
}

fn main() {}
