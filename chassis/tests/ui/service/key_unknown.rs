use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[get("/orders", timout = "2s")]
    async fn orders(&self) {}

    #[get("/items", colour = "red")]
    async fn items(&self) {}
}

fn main() {}
