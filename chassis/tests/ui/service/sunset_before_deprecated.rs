use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[get("/orders", deprecated = "2026-06-30", sunset = "2025-06-30")]
    async fn orders(&self) {}
}

fn main() {}
