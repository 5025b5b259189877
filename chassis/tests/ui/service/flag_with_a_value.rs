use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[post("/orders", idempotent = true)]
    async fn place(&self) {}
}

fn main() {}
