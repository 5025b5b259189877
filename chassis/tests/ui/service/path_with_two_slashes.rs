use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[get("/orders//items")]
    async fn items(&self) {}
}

fn main() {}
