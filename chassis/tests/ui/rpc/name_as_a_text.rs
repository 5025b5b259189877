use chassis::prelude::*;

#[path = "../proto.rs"]
mod proto;

struct Orders;

#[service(grpc = proto::orders_server::Orders)]
impl Orders {
    #[rpc("CancelOrder")]
    async fn cancel(&self, id: u32) {
        let _ = id;
    }
}

fn main() {}
