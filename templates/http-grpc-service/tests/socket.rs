//! The program as it runs in production: a process of its own, HTTP and gRPC over a socket, SIGTERM.

mod support;

use std::net::SocketAddr;

use proto::{HelloRequest, greeter_client::GreeterClient};
use support::Service;

mod proto {
    tonic::include_proto!("greetings.v1");
}

#[test]
fn the_program_serves_and_stops_in_order() {
    let service = Service::start();
    assert_eq!(service.get("/readyz").0, 200);
    assert_eq!(service.get("/hello/ada"), (200, r#"{"text":"Hello, ada!"}"#.to_owned()));
    assert_eq!(greeting(service.address, "ada"), "Hello, ada!");
    service.stop();
}

/// A call, on a runtime of its own: what is around it waits for a process, and blocks.
#[tokio::main(flavor = "current_thread")]
async fn greeting(address: SocketAddr, name: &str) -> String {
    let mut greeter = GreeterClient::connect(format!("http://{address}")).await.expect("a connection");
    let answer = greeter.hello(HelloRequest { name: name.to_owned() }).await.expect("an answer");
    answer.into_inner().text
}

#[test]
fn the_configuration_that_ships_is_right() {
    let checked = support::program().args(["config", "check"]).output().expect("the program starts");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
