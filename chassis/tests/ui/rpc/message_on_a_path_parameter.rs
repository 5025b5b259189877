use chassis::prelude::*;

#[path = "../proto.rs"]
mod proto;

struct Orders;

#[service(grpc = proto::orders_server::Orders)]
impl Orders {
    #[put("/orders/{id}")]
    #[rpc]
    async fn cancel_order(&self, #[message] id: u32) {
        let _ = id;
    }
}

fn main() {}
