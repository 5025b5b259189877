use chassis::prelude::*;

struct Orders;

#[service(path = "shop/", version = "/v1", tag = orders)]
impl Orders {
    #[get("/orders")]
    async fn orders(&self) {}
}

fn main() {}
