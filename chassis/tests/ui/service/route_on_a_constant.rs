use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[get("/orders")]
    const ORDERS: u64 = 7;
}

fn main() {}
