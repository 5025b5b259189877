//! Does a stop lose requests? `cargo run -p graceful-shutdown`, then `curl localhost:8080/slow/5000`, and Ctrl-C in the first
//! terminal while curl waits.
//!
//! The request is served to its end, then the hook runs, and the process ends with 0. What comes first is that `/readyz` is
//! 503, so that nobody sends more; what cuts a request off is `shutdown.grace`, 25 s. The log says each step.
//!
//! Try next: `--set shutdown.grace=1s`, and the request is cut. `--set shutdown.drain_delay=5s`, and the service still takes
//! requests for five seconds after the signal while `curl -i localhost:8080/readyz` is 503 already: that is what every profile
//! but `dev` does, because callers hear of a stop late. Ctrl-C twice skips the delay.

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
