use chassis::prelude::*;
use axum::{Json, extract::State};

#[derive(serde::Serialize, serde::Deserialize)]
struct Order {
    id: u64,
}

struct Orders;

#[service]
impl Orders {
    #[post("/orders")]
    async fn place(&self, Json(order): Json<Order>, State(orders): State<Orders>) -> u64 {
        drop(orders);
        order.id
    }
}

fn main() {}
