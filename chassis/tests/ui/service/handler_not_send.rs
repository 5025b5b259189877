use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[get("/orders")]
    async fn orders(&self) -> u64 {
        let shared = std::rc::Rc::new(7);
        std::future::ready(()).await;
        *shared
    }
}

fn main() {}
