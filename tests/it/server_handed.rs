//! Sockets that are handed over by `LISTEN_FDS`: a restart refuses nobody.

use std::net::{SocketAddr, TcpListener};

use rustix::process::Signal;
use tokio::sync::watch;

use crate::support::{http1, process::Quickstart};

fn socket() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_on_a_handed_socket_refuses_no_request() {
    const RESTARTS: usize = 5;
    let (socket, address) = socket();
    let (stop, stopped) = watch::channel(false);
    // One request after the other, each on a connection of its own: those that come while nothing runs wait in the queue.
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let stopped = stopped.clone();
            tokio::spawn(async move {
                let mut answered = 0_usize;
                while !*stopped.borrow() {
                    assert_eq!(http1::get(address, "/slow/1").await.status, 200);
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    let mut service = Quickstart::fixture().socket(&socket).start().await;
    for _ in 0..RESTARTS {
        assert_eq!(service.http, address, "the port of the socket, whatever http.address says");
        let mut before = service;
        before.process.signal(Signal::TERM);
        assert_eq!(before.process.exit_code().await, 0);
        service = Quickstart::fixture().socket(&socket).start().await;
        // It serves those who have waited.
        assert_eq!(service.get("/slow/1").await.status, 200);
    }
    stop.send_replace(true);
    for caller in callers {
        assert!(caller.await.expect("no request is refused") > RESTARTS);
    }
    assert_eq!(service.terminate().await, 0);
}

#[tokio::test]
async fn a_socket_for_another_process_is_left_alone() {
    let (socket, address) = socket();
    let mut service = Quickstart::fixture().socket_of("1", &socket).start().await;
    assert_ne!(service.http, address);
    assert_eq!(service.get("/slow/1").await.status, 200);
    assert_eq!(service.terminate().await, 0);
}

#[tokio::test]
async fn a_named_socket_is_for_the_port_of_its_name() {
    let (socket, address) = socket();
    let mut service = Quickstart::fixture().socket(&socket).env("LISTEN_FDNAMES", "admin").start().await;
    assert_eq!(service.admin, address);
    assert_eq!(service.operator("/livez").await.status, 200);
    assert_eq!(service.terminate().await, 0);
}

#[tokio::test]
async fn sockets_that_make_no_sense_stop_the_start() {
    for (count, part) in
        [("many", "LISTEN_FDS: found \"many\""), ("3", "LISTEN_FDS: found 3, expected one socket for http")]
    {
        let ended = Quickstart::fixture().env("LISTEN_FDS", count).run().await;
        assert_eq!(ended.code, Some(78), "{}", ended.stderr);
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
}
