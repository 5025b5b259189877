use chassis::prelude::*;

#[path = "../proto.rs"]
mod proto;

struct Orders;

#[service(grpc = proto::orders_server::Orders)]
impl Orders {
    #[put("/orders")]
    async fn cancel(&self, #[message] id: u32) {
        let _ = id;
    }

    #[rpc]
    async fn cancel_order(&self) {}
}

fn main() {}
