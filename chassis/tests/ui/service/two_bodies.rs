use chassis::prelude::*;

#[derive(serde::Serialize, serde::Deserialize)]
struct Order {
    id: u64,
}

struct Orders;

#[service]
impl Orders {
    #[post("/orders")]
    async fn place(&self, order: Order, note: String) -> usize {
        note.len() + order.id as usize
    }
}

fn main() {}
