use chassis::prelude::*;

#[derive(Debug)]
struct OrderError;

struct Orders;

#[service]
impl Orders {
    #[get("/orders")]
    async fn orders(&self) -> Result<u64, OrderError> {
        Err(OrderError)
    }
}

fn main() {}
