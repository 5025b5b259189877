use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[post("/orders", timeout = "0s", concurrency = 0, body_limit = 0, deprecated = "2026-02-30", tags = [])]
    async fn place(&self) {}
}

fn main() {}
