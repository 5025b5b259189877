//! What is the smallest service? `cargo run -p hello-http`, then `curl localhost:8080/hello/ada`.
//!
//! A method is a plain function: its signature is the route's. Probes, metrics, logs, traces, limits, a configuration and a
//! stop that loses no request come with it; on port 8081 are the operators' pages.
//!
//! Try next: `curl localhost:8081/metrics`, open <http://localhost:8080/docs>, and `cargo run -p hello-http -- --help`. Then
//! `hello-grpc` for gRPC, and `errors-problem-json` for a method that may fail.

use chassis::prelude::*;

struct Hello;

#[service]
impl Hello {
    /// Greet somebody.
    #[get("/hello/{name}")]
    async fn hello(&self, name: String) -> String {
        format!("hello, {name}")
    }
}

#[chassis::main]
async fn main(chassis: Chassis) -> chassis::Result<()> {
    chassis.mount(Hello).serve().await
}
