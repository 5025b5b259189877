use chassis::prelude::*;

#[path = "../proto.rs"]
mod proto;

struct Order {
    id: u32,
}

struct Orders;

#[service(grpc = proto::orders_server::Orders)]
impl Orders {
    #[rpc]
    async fn get_order(&self, id: u32) -> Result<Order, Problem> {
        Ok(Order { id })
    }

    #[rpc]
    async fn cancel_order(&self, id: u32) -> Created<Order> {
        Created::new(Order { id })
    }
}

fn main() {}
