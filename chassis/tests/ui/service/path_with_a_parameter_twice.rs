use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[get("/orders/{id}/items/{id}")]
    async fn item(&self, id: u64) -> u64 {
        id
    }
}

fn main() {}
