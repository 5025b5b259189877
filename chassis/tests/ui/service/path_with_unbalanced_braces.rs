use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[get("/orders/{id")]
    async fn order(&self) {}
}

fn main() {}
