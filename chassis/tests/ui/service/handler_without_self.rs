use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[get("/orders")]
    async fn orders() -> u64 {
        7
    }
}

fn main() {}
