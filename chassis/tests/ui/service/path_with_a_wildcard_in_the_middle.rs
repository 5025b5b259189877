use chassis::prelude::*;

struct Orders;

#[service]
impl Orders {
    #[get("/files/{*rest}/text")]
    async fn file(&self, rest: String) -> String {
        rest
    }
}

fn main() {}
