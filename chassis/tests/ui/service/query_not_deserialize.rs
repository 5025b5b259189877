use chassis::prelude::*;

struct Page {
    limit: u32,
}

struct Orders;

#[service]
impl Orders {
    #[get("/orders")]
    async fn orders(&self, page: Page) -> u32 {
        page.limit
    }
}

fn main() {}
