use chassis::prelude::*;

struct Orders;

impl Orders {
    #[get("/orders")]
    async fn orders(&self) {}
}

fn main() {}
