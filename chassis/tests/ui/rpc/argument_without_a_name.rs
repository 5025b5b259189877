use chassis::prelude::*;

#[path = "../proto.rs"]
mod proto;

struct OrderId(u32);

struct Orders;

#[service(grpc = proto::orders_server::Orders)]
impl Orders {
    #[rpc(CancelOrder)]
    async fn cancel(&self, OrderId(id): OrderId) {
        let _ = id;
    }
}

fn main() {}
