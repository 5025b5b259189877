use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[get("/orders/{id}")]
    async fn order(&self, #[cfg(unix)] id: u64) -> u64 {
        id
    }
}

fn main() {}
