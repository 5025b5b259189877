use axum::{extract::Request, http::HeaderMap};
use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[get("/orders")]
    async fn orders(&self, headers: HeaderMap) -> usize {
        headers.len()
    }

    #[post("/orders")]
    async fn place(&self, request: Request) -> u64 {
        drop(request);
        7
    }
}

fn main() {}
