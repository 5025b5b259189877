use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[post("/orders", timeout = 2, concurrency = "10", body_limit = true, deprecated = 2026, tags = "orders")]
    async fn place(&self) {}
}

fn main() {}
