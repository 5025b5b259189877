use chassis::prelude::*;

#[path = "../proto.rs"]
mod proto;

struct OrderId(u32);

struct Orders;

#[service(grpc = proto::orders_server::Orders)]
impl Orders {
    #[rpc]
    async fn cancel_order(&self, #[message] order: OrderId) {
        let _ = order.0;
    }
}

fn main() {}
