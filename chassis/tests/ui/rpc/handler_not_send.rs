use chassis::prelude::*;

#[path = "../proto.rs"]
mod proto;

struct Orders;

#[service(grpc = proto::orders_server::Orders)]
impl Orders {
    #[rpc]
    async fn cancel_order(&self, id: u32) {
        let shared = std::rc::Rc::new(id);
        std::future::ready(()).await;
        drop(shared);
    }
}

fn main() {}
