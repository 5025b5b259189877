//! The program as it runs in production: a process of its own, HTTP and gRPC over a socket, SIGTERM.

mod support;

use proto::{HelloRequest, greeter_client::GreeterClient};
use support::Service;

mod proto {
    tonic::include_proto!("greetings.v1");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_serves_and_stops_in_order() {
    let service = Service::start();
    assert_eq!(service.get("/readyz").0, 200);
    assert_eq!(service.get("/hello/ada"), (200, r#"{"text":"Hello, ada!"}"#.to_owned()));
    let mut greeter = GreeterClient::connect(format!("http://{}", service.address)).await.expect("a connection");
    let answer = greeter.hello(HelloRequest { name: "ada".to_owned() }).await.expect("an answer");
    assert_eq!(answer.into_inner().text, "Hello, ada!");
    drop(greeter);
    service.stop();
}

#[test]
fn the_configuration_that_ships_is_right() {
    let checked = support::program().args(["config", "check"]).output().expect("the program starts");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
