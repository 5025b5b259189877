use chassis::prelude::*;

#[post("/orders")]
async fn place() {}

fn main() {}
