//! How do I serve gRPC? `cargo run -p hello-grpc`, then
//! `grpcurl -plaintext -d '{"name": "ada"}' localhost:8080 hello.v1.Greeter/SayHello`.
//!
//! The `.proto` file is in `proto`, and `build.rs` makes the stubs of it, without `protoc`. The method takes and returns
//! types of the domain: the fields of the request's message are its arguments, and `From` makes the answer's message.
//! Reflection, gRPC-Web and `grpc.health.v1` are on the same port.
//!
//! Try next: start it with `routes` behind `cargo run -p hello-grpc --`. `quickstart` has one method over both: a route,
//! `#[get("/orders/{id}")]`, above its `#[rpc(GetOrder)]`, and an answer that serializes.

use chassis::prelude::*;

#[allow(missing_docs, unreachable_pub, reason = "made from proto/hello/v1/hello.proto")]
mod proto {
    tonic::include_proto!("hello.v1");
}

const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hello.bin"));

/// What the domain answers; it knows nothing of gRPC.
struct Greeting(String);

impl From<Greeting> for proto::Greeting {
    fn from(Greeting(text): Greeting) -> Self {
        Self { text }
    }
}

struct Hello;

#[service(grpc = proto::greeter_server::Greeter)]
impl Hello {
    /// Greet somebody.
    #[rpc(SayHello)]
    async fn hello(&self, name: String) -> Greeting {
        Greeting(format!("hello, {name}"))
    }
}

#[chassis::main]
async fn main(chassis: Chassis) -> chassis::Result<()> {
    chassis.mount(Hello).grpc_reflection(FILE_DESCRIPTOR_SET).serve().await
}
