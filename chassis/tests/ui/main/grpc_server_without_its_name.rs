use chassis::prelude::*;

/// What is left of a server behind a tower layer.
#[derive(Clone)]
struct Layered<S>(S);

struct OrdersServer;

#[chassis::main]
async fn main(chassis: Chassis) -> chassis::Result<()> {
    chassis.grpc(Layered(OrdersServer)).serve().await
}
