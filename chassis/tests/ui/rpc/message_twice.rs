use chassis::prelude::*;

#[path = "../proto.rs"]
mod proto;

struct Orders;

#[service(grpc = proto::orders_server::Orders)]
impl Orders {
    #[rpc(CancelOrder)]
    async fn cancel(&self, #[message] one: proto::GetOrderRequest, #[message] two: proto::GetOrderRequest) {
        let _ = (one, two);
    }
}

fn main() {}
