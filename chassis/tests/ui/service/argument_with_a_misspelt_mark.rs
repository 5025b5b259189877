use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[get("/orders")]
    async fn orders(&self, #[extarct] headers: http::HeaderMap) -> usize {
        headers.len()
    }
}

fn main() {}
