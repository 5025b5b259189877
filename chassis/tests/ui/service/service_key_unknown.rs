use chassis::prelude::*;

struct Orders;

#[service(pth = "/shop", prefix = "/shop", timeout = "2s")]
impl Orders {
    #[get("/orders")]
    async fn orders(&self) {}
}

fn main() {}
