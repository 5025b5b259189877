//! An orders service: `cargo run -p quickstart`, then `curl localhost:8080/orders/7`.
//!
//! HTTP and gRPC are on port 8080, operators on 8081; nothing else has to run.

mod grpc;
mod orders;

use chassis::prelude::*;
use orders::{EmptyOrder, NewOrder, Order, UnknownOrder};

struct Orders;

#[service(grpc = grpc::proto::orders_server::Orders)]
impl Orders {
    /// Look one order up.
    #[get("/orders/{id}")]
    #[rpc(GetOrder)]
    async fn order(&self, id: u32) -> Result<Order, UnknownOrder> {
        orders::find(id).ok_or(UnknownOrder(id))
    }

    /// Place an order.
    ///
    /// This example keeps none, so the answer names no place to look it up.
    #[post("/orders", timeout = "2s")]
    async fn place(&self, order: NewOrder) -> Result<Created<Order>, EmptyOrder> {
        orders::place(order).map(Created::new)
    }
}

#[chassis::main]
async fn main(chassis: Chassis) -> chassis::Result<()> {
    chassis.mount(Orders).grpc_reflection(grpc::FILE_DESCRIPTOR_SET).serve().await
}
