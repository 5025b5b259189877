use chassis::prelude::*;

#[service]
async fn orders() {}

fn main() {}
