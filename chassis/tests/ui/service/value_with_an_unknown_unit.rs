use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[post("/orders", timeout = "2 seconds", body_limit = "64kb", deprecated = "30.06.2026")]
    async fn place(&self) {}
}

fn main() {}
