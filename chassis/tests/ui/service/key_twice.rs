use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[get("/orders", timeout = "2s", timeout = "3s")]
    async fn orders(&self) {}
}

fn main() {}
