use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[post("/orders")]
    async fn place<T: serde::de::DeserializeOwned>(&self, order: T) {
        drop(order);
    }
}

fn main() {}
