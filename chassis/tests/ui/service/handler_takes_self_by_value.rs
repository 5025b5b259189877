use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[get("/orders")]
    async fn orders(self) -> u64 {
        7
    }
}

fn main() {}
