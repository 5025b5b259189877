use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[get("/orders/{order_id}")]
    async fn order(&self, id: u64) -> u64 {
        id
    }

    #[put("/customers/{customer}")]
    async fn rename(&self, custmer: u64, name: String) -> u64 {
        custmer + name.len() as u64
    }
}

fn main() {}
