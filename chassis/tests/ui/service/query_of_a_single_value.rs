use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[get("/orders")]
    async fn orders(&self, limit: u32) -> u32 {
        limit
    }
}

fn main() {}
