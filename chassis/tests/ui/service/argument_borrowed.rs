use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[get("/orders/{id}")]
    async fn order(&self, id: &str) -> usize {
        id.len()
    }

    #[post("/orders")]
    async fn place(&self, note: std::borrow::Cow<'_, str>) -> usize {
        note.len()
    }
}

fn main() {}
