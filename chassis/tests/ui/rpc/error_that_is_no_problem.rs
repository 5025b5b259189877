use chassis::prelude::*;

#[path = "../proto.rs"]
mod proto;

#[derive(Debug)]
struct OrderError;

struct Orders;

#[service(grpc = proto::orders_server::Orders)]
impl Orders {
    #[rpc]
    async fn cancel_order(&self, id: u32) -> Result<(), OrderError> {
        let _ = id;
        Err(OrderError)
    }
}

fn main() {}
