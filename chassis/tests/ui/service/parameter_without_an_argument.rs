use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[get("/customers/{customer}/orders/{id}")]
    async fn order(&self, id: u64) -> u64 {
        id
    }
}

fn main() {}
