use chassis::prelude::*;

#[derive(serde::Deserialize)]
struct Page {
    limit: u32,
}

#[derive(serde::Deserialize)]
struct Filter {
    least: u32,
}

struct Orders;

#[service]
impl Orders {
    #[get("/orders")]
    async fn orders(&self, page: Page, filter: Filter) -> u32 {
        page.limit + filter.least
    }
}

fn main() {}
