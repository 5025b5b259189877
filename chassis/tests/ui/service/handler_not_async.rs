use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[get("/orders")]
    fn orders(&self) -> u64 {
        7
    }
}

fn main() {}
