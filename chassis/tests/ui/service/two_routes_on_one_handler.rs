use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[get("/orders")]
    #[head("/orders")]
    async fn orders(&self) {}
}

fn main() {}
