use chassis::prelude::*;

struct Orders;

impl Orders {
    #[rpc(GetOrder)]
    async fn order(&self, id: u32) -> u32 {
        id
    }
}

fn main() {}
