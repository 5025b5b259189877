use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[get]
    async fn orders(&self) {}

    #[get(timeout = "2s")]
    async fn recent(&self) {}
}

fn main() {}
