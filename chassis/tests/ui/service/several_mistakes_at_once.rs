use chassis::prelude::*;

#[derive(serde::Serialize, serde::Deserialize)]
struct Order {
    id: u64,
}

struct Orders;

#[service(versoin = "v1")]
impl Orders {
    #[get("orders/{id}", timout = "2s")]
    fn order(&self, id: &str) -> usize {
        id.len()
    }

    #[post("/orders", concurrency = 0)]
    async fn place(&mut self, order: Order, note: String) -> usize {
        note.len() + order.id as usize
    }

    #[get("/orders")]
    async fn healthy(&self) -> u64 {
        7
    }
}

fn main() {}
