use chassis::prelude::*;

#[path = "../proto.rs"]
mod proto;

struct Orders;

#[service(grpc = proto::orders_server::Orders)]
impl Orders {
    #[rpc(get_order)]
    async fn order(&self, id: u32) -> proto::Order {
        proto::Order { id }
    }

    #[rpc("CancelOrder")]
    async fn cancel(&self, id: u32) {
        let _ = id;
    }
}

fn main() {}
