use chassis::prelude::*;

struct Orders;

#[service(path = "/tenants/{tenant}")]
impl Orders {
    #[get("/orders")]
    async fn orders(&self, tenant: String) -> String {
        tenant
    }

    #[get("/items")]
    async fn items(&self) {}
}

fn main() {}
