use chassis::prelude::*;

#[path = "../proto.rs"]
mod proto;

struct Orders;

#[service(grpc = proto::orders_server::Orders)]
impl Orders {
    #[rpc]
    async fn cancel_order(&self, order_id: u32) {
        let _ = order_id;
    }
}

fn main() {}
