use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[get("/orders")]
    async fn orders(&self) -> u64 {
        7
    }
}

#[service]
impl Orders {
    #[post("/orders")]
    async fn place(&self) -> u64 {
        8
    }
}

fn main() {}
