use chassis::prelude::*;

struct Settings {
    greeting: String,
}

#[chassis::main]
async fn main(chassis: Chassis<Settings>) -> chassis::Result<()> {
    println!("{}", chassis.settings().greeting);
    chassis.serve().await
}
