use chassis::prelude::*;

#[path = "../proto.rs"]
mod proto;

struct OrderId(u32);

struct Orders;

#[service(grpc = proto::orders_server::Orders)]
impl Orders {
    #[rpc]
    async fn cancel_order(&self, id: OrderId) {
        let _ = id.0;
    }
}

fn main() {}
