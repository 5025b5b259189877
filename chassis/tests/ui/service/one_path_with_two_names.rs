use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[get("/orders/{id}")]
    async fn order(&self, id: u64) -> u64 {
        id
    }

    #[delete("/orders/{order}")]
    async fn cancel(&self, order: u64) -> u64 {
        order
    }
}

fn main() {}
