use chassis::prelude::*;

#[path = "../proto.rs"]
mod proto;

struct Orders;

#[service(grpc = proto::orders_server::Orders)]
impl Orders {
    #[get("/orders/{id}")]
    async fn order(&self, id: u32) -> u32 {
        id
    }
}

fn main() {}
