use chassis::prelude::*;

struct User {
    id: u64,
}

struct Orders;

#[service]
impl Orders {
    #[get("/orders")]
    async fn orders(&self, #[extract] user: User) -> u64 {
        user.id
    }
}

fn main() {}
