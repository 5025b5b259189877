use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[post("/orders")]
    async fn place(&self, note: impl Into<String>) -> usize {
        note.into().len()
    }
}

fn main() {}
