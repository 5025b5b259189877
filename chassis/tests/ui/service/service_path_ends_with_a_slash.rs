use chassis::prelude::*;

struct Orders;

#[service(path = "/shop/")]
impl Orders {
    #[get("/orders")]
    async fn orders(&self) {}
}

fn main() {}
