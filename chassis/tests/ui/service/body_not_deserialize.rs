use chassis::prelude::*;

struct NewOrder {
    id: u64,
}

struct Orders;

#[service]
impl Orders {
    #[post("/orders")]
    async fn place(&self, order: NewOrder) -> u64 {
        order.id
    }
}

fn main() {}
