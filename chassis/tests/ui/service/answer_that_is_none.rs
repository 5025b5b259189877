use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[get("/orders")]
    async fn orders(&self) -> Orders {
        Orders
    }
}

fn main() {}
