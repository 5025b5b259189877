use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[get("/orders", timeout)]
    async fn orders(&self) {}

    #[get("/items", timeout("2s"))]
    async fn items(&self) {}
}

fn main() {}
