use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[get("/orders", sunset = "2027-06-30")]
    async fn orders(&self) {}
}

fn main() {}
