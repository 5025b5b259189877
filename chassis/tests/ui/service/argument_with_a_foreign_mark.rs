use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[post("/orders/{id}")]
    async fn place(&self, #[path] id: u64, #[json] note: String) -> usize {
        note.len() + id as usize
    }
}

fn main() {}
