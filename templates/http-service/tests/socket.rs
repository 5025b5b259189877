//! The program as it runs in production: a process of its own, HTTP over a socket, SIGTERM.

mod support;

use support::Service;

#[test]
fn the_program_serves_and_stops_in_order() {
    let service = Service::start();
    assert_eq!(service.get("/readyz").0, 200);
    let (status, body) = service.get("/hello/ada");
    assert_eq!((status, body.as_str()), (200, r#"{"text":"Hello, ada!"}"#));
    service.stop();
}

#[test]
fn the_configuration_that_ships_is_right() {
    let checked = support::program().args(["config", "check"]).output().expect("the program starts");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
