use chassis::prelude::*;

#[service]
struct Orders;

fn main() {}
