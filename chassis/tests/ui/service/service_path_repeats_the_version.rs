use chassis::prelude::*;

struct Orders;

#[service(version = "v1", path = "/v1/shop")]
impl Orders {
    #[get("/orders")]
    async fn orders(&self) {}
}

fn main() {}
