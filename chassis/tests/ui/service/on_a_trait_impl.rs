use chassis::prelude::*;

trait Shop {
    fn orders(&self) -> u64;
}

struct Orders;

#[service]
impl Shop for Orders {
    fn orders(&self) -> u64 {
        7
    }
}

fn main() {}
