//! How do I serve gRPC? `cargo run -p hello-grpc`, then
//! `grpcurl -plaintext -d '{"name": "ada"}' localhost:8080 hello.v1.Greeter/SayHello`.
//!
//! The `.proto` file is in `proto`, and `build.rs` makes the stubs of it, without `protoc`. The method takes and returns
//! types of the domain: the fields of the request's message are its arguments, and `From` makes the answer's message.
//! Reflection, gRPC-Web and `grpc.health.v1` are on the same port. A stream is a method of a tonic server written by hand;
//! what it takes, a `Stream` and `async_trait`, comes with `chassis::tonic`.
//!
//! Try next: start it with `routes` behind `cargo run -p hello-grpc --`. `quickstart` has one method over both: a route,
//! `#[get("/orders/{id}")]`, above its `#[rpc(GetOrder)]`, and an answer that serializes.

use std::pin::Pin;

use chassis::{
    prelude::*,
    tonic::{
        self, Request, Response, Status,
        codegen::tokio_stream::{self, Stream},
    },
};

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

struct Songs;

#[tonic::async_trait]
impl proto::choir_server::Choir for Songs {
    type SingStream = Pin<Box<dyn Stream<Item = Result<proto::Greeting, Status>> + Send>>;

    async fn sing(&self, request: Request<proto::SayHelloRequest>) -> Result<Response<Self::SingStream>, Status> {
        let name = request.into_inner().name;
        let verses = (1..=3).map(move |verse| Ok(proto::Greeting { text: format!("{verse}: hello, {name}") }));
        Ok(Response::new(Box::pin(tokio_stream::iter(verses))))
    }
}

#[chassis::main]
async fn main(chassis: Chassis) -> chassis::Result<()> {
    let choir = proto::choir_server::ChoirServer::new(Songs);
    chassis.mount(Hello).grpc(choir).grpc_reflection(FILE_DESCRIPTOR_SET).serve().await
}
