use chassis::prelude::*;

const ORDERS: &str = "/orders";

struct Orders;

#[service]
impl Orders {
    #[get(ORDERS)]
    async fn orders(&self) {}
}

fn main() {}
