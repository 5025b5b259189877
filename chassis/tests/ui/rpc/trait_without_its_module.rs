use chassis::prelude::*;

#[path = "../proto.rs"]
mod proto;

struct Orders;

#[service(grpc = Server)]
impl Orders {
    #[rpc(GetOrder)]
    async fn order(&self, id: u32) -> proto::Order {
        proto::Order { id }
    }
}

fn main() {}
