//! How long may a call take that I make for somebody who waits?
//! `cargo run -p deadline-propagation -- --config examples/deadline-propagation/config/default.toml`, then
//! `curl localhost:8080/front -H 'x-request-timeout-ms: 1000'`.
//!
//! `Front` works for 300 ms and then asks `Back`. Nobody hands a time-out on, and `Back` knows how long the caller of
//! `Front` still waits: what the header said, less what `Front` took. Without a header it is the time-out of the route, 2 s.
//!
//! `curl localhost:8080/front -H 'x-request-timeout-ms: 200'` is a 504 after 200 ms, and `Back` is never asked: no service
//! works on what nobody waits for any more.
//!
//! Try next: move the call into `tokio::spawn`. The task does not know the request, so the time is that of `[clients.back]`;
//! with `RequestContext::scope` around it, it does. Over gRPC the header is `grpc-timeout`, and all else is the same.

use std::time::Duration;

use chassis::{RequestContext, client::CallError, prelude::*};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Serialize, JsonSchema)]
struct Times {
    /// What was left when the request came to the front, in milliseconds.
    front: u64,
    /// What was left when the call came to the back.
    back: u64,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Left {
    milliseconds: u64,
}

/// What is left of the time of the request being served.
fn left() -> Left {
    let left = RequestContext::current().and_then(|request| request.remaining()).unwrap_or(Duration::MAX);
    Left { milliseconds: u64::try_from(left.as_millis()).unwrap_or(u64::MAX) }
}

struct Back;

#[service]
impl Back {
    /// How long the caller still waits.
    #[get("/back")]
    async fn left(&self) -> Left {
        left()
    }
}

/// The back, as its callers see it.
#[chassis::client]
trait BackApi: Send + Sync {
    #[get("/back")]
    async fn left(&self) -> Result<Left, CallError>;
}

struct Front {
    back: BackApiClient,
}

#[service]
impl Front {
    /// Works for a while, and asks the back.
    #[get("/front", timeout = "2s")]
    async fn times(&self) -> Result<Times, CallError> {
        let front = left().milliseconds;
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok(Times { front, back: self.back.left().await?.milliseconds })
    }
}

#[chassis::main]
async fn main(chassis: Chassis) -> chassis::Result<()> {
    let back = BackApiClient::new(chassis.client("back")?);
    chassis.mount(Back).mount(Front { back }).serve().await
}
