//! Does a stop lose requests? `cargo run -p graceful-shutdown`, then `curl localhost:8080/slow/5000`, and Ctrl-C in the
//! first terminal while curl waits.
//!
//! No new requests are taken, the one under way is served to its end, the hook runs, and the process ends with 0. Only what
//! takes longer than `shutdown.grace`, 25 s, is cut. The log says each step.
//!
//! Try next: `cargo run -p graceful-shutdown -- --set shutdown.grace=1s`, and the request is cut. With
//! `--set shutdown.drain_delay=10s`, and `kill <pid>` in the place of Ctrl-C, `curl -i localhost:8080/readyz` is 503 at
//! once, and requests are still served for ten seconds: callers hear late that an instance goes. Every profile but `dev`
//! waits so, for 5 s.

use std::time::Duration;

use chassis::prelude::*;

struct Worker;

#[service]
impl Worker {
    /// Work for so many milliseconds.
    #[get("/slow/{milliseconds}")]
    async fn work(&self, milliseconds: u64) -> String {
        tracing::info!("work begins");
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        tracing::info!("work ends");
        "done".to_owned()
    }
}

/// A pool of connections would be closed here.
async fn close_store() {
    tracing::info!("the store is closed");
}

#[chassis::main]
async fn main(chassis: Chassis) -> chassis::Result<()> {
    // After the last request and the last background task; of several hooks the last one first.
    chassis.mount(Worker).on_shutdown("store", close_store).serve().await
}
