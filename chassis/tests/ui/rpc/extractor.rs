use chassis::prelude::*;

#[path = "../proto.rs"]
mod proto;

struct Orders;

#[service(grpc = proto::orders_server::Orders)]
impl Orders {
    #[get("/orders/{id}")]
    #[rpc(GetOrder)]
    async fn order(&self, id: u32, #[extract] headers: http::HeaderMap) -> Result<proto::Order, Problem> {
        let _ = headers;
        Ok(proto::Order { id })
    }
}

fn main() {}
