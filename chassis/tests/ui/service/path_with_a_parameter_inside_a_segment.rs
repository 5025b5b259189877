use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[get("/orders/{id}.json")]
    async fn order(&self) {}
}

fn main() {}
