use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[get("/orders/{id}")]
    async fn order(&self, id: u64) -> u64 {
        id
    }

    #[get("/orders/{number}")]
    async fn by_number(&self, number: u64) -> u64 {
        number
    }
}

fn main() {}
