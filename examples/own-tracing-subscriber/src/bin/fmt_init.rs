//! Does `tracing_subscriber::fmt::init()` log as before? `cargo run -p own-tracing-subscriber --bin own-fmt-init`: yes, from
//! INFO up, without `RUST_LOG`; the chassis's own lines are in its format.
//!
//! Try next: `src/main.rs` beside it, whose lines bear the trace id of the request.

use chassis::{config::Sources, prelude::*};

struct Hello;

#[service]
impl Hello {
    /// Greet somebody.
    #[get("/hello/{name}")]
    async fn hello(&self, name: String) -> String {
        tracing::info!("greeting");
        format!("hello, {name}")
    }
}

#[tokio::main]
async fn main() -> chassis::Result<()> {
    tracing_subscriber::fmt::init();
    tracing::info!("the application begins");
    let chassis: Chassis = Chassis::new(chassis::build_info!(), Sources::of_process())?;
    chassis.mount(Hello).run().await
}
