//! What signals do to the process, and how long its end may take.

use std::{io::ErrorKind, net::SocketAddr, process::Stdio, time::Duration};

use http::HeaderMap;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    net::TcpStream,
    process::Command,
    time::{interval, timeout},
};

use crate::support::{
    http1,
    http2::{self, Next},
    pace::Pace,
    process::{Folder, PATIENCE, Quickstart, binary},
};

/// Longer than any test waits: who ends before it has skipped it.
const FOR_EVER: &str = "10m";

/// Waits until nobody listens any more: the service is past its drain delay.
async fn refused(address: SocketAddr) {
    let mut tick = interval(Duration::from_millis(10));
    let refused = async {
        loop {
            tick.tick().await;
            match TcpStream::connect(address).await {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => return,
                _ => {}
            }
        }
    };
    timeout(PATIENCE, refused).await.expect("the listener closes");
}

#[tokio::test]
async fn a_draining_service_is_not_ready_and_still_serves() {
    let mut service = Quickstart::new().set("shutdown.drain_delay", FOR_EVER).start().await;
    assert_eq!(service.get("/readyz").await.status, 200);
    let mut watcher = http2::Connection::open(service.http).await.unwrap();
    let mut watch = watcher.call("/grpc.health.v1.Health/Watch", &[], HeaderMap::new()).await.unwrap();
    assert_eq!(watch.next().await, Next::Message([8, 1].as_slice().into()), "SERVING");
    let mut kept = http1::Connection::open(service.http).await.unwrap();
    assert!(!kept.get("/orders/7").await.unwrap().closes());

    service.process.signal(Signal::TERM);
    assert_eq!(watch.next().await, Next::Message([8, 2].as_slice().into()), "NOT_SERVING");
    let answer = service.get("/readyz").await;
    assert_eq!((answer.status, answer.body.as_str()), (503, "failed: draining\n"));
    assert_eq!(service.get("/livez").await.status, 200);
    assert_eq!(service.operator("/health").await.json()["draining"], true);
    let answer = kept.get("/orders/7").await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.closes(), "the caller is told to go elsewhere: {}", answer.head);
    assert_eq!(service.get("/orders/8").await.status, 200, "new callers are served until the listener closes");

    service.process.signal(Signal::TERM);
    assert_eq!(watch.next().await, Next::End("0".to_owned()), "the stream ends in order");
    assert_eq!(service.process.exit_code().await, 0, "the second signal skips the drain delay");
    assert!(!service.process.folder().path().join("ready.json").exists(), "the ready file is gone");
}

#[tokio::test]
async fn idle_connections_hold_a_stop_up_for_no_longer_than_they_linger() {
    let pace = Pace::measure();
    for delay in ["0s", "200ms"] {
        let mut service = Quickstart::new().set("shutdown.drain_delay", delay).start().await;
        let mut kept = http1::Connection::open(service.http).await.unwrap();
        assert_eq!(kept.get("/orders/7").await.unwrap().status, 200);
        let mut streams = http2::Connection::open(service.http).await.unwrap();
        assert_eq!(streams.get("/orders/7").await.unwrap().0, 200);
        let _silent = TcpStream::connect(service.http).await.unwrap();
        let _operator = http1::Connection::open(service.admin).await.unwrap().get("/livez").await.unwrap();
        // Well below every tick of the connections' own watch.
        let code = pace.within("the stop", Duration::from_secs(5), service.terminate()).await;
        assert_eq!(code, 0, "{delay}: {:#?}", service.process.stdout());
    }
}

#[tokio::test]
async fn a_request_in_flight_ends_within_the_grace_period() {
    let mut service = Quickstart::fixture().start().await;
    let address = service.http;
    let asked = tokio::spawn(async move { http1::get(address, "/slow/1500").await });
    service.process.says("a slow request has begun").await;
    service.process.signal(Signal::TERM);
    refused(service.http).await;
    assert_eq!(service.operator("/readyz").await.status, 503, "the operators' port is the last to go");
    let answer = asked.await.unwrap();
    assert_eq!((answer.status, answer.closes()), (200, true));
    assert_eq!(service.process.exit_code().await, 0);
}

#[tokio::test]
async fn a_request_longer_than_the_grace_period_is_cut_and_the_exit_code_is_0() {
    let mut service = Quickstart::fixture()
        .set("http.request_timeout", "1h")
        .set("shutdown.grace", "200ms")
        .set("app.task_hangs", "true")
        .start()
        .await;
    let mut connection = http1::Connection::open(service.http).await.unwrap();
    connection.write("GET /slow/3600000 HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    service.process.says("a slow request has begun").await;
    assert_eq!(service.terminate().await, 0);
    // Closed or reset, but not answered.
    assert!(connection.answer().await.is_err());
    assert_eq!(service.process.logged("the grace period is over: cutting what is left").len(), 1);
    assert_eq!(service.process.logged("background task aborted: it did not end before the deadline").len(), 1);
    assert_eq!(service.process.logged("stopped").len(), 1);
}

#[tokio::test]
async fn the_third_signal_ends_the_process_at_once() {
    let mut service = Quickstart::fixture()
        .set("http.request_timeout", "1h")
        .set("shutdown.drain_delay", FOR_EVER)
        .set("shutdown.grace", FOR_EVER)
        .start()
        .await;
    let mut connection = http1::Connection::open(service.http).await.unwrap();
    connection.write("GET /slow/3600000 HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    service.process.says("a slow request has begun").await;
    service.process.signal(Signal::TERM);
    service.process.says("draining").await;
    service.process.signal(Signal::TERM);
    refused(service.http).await;
    service.process.signal(Signal::TERM);
    assert_eq!(service.process.exit_code().await, 143);
}

#[tokio::test]
async fn the_third_signal_ends_the_process_also_while_it_flushes() {
    // A collector that accepts and never answers.
    let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut service = Quickstart::new()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{}", deaf.local_addr().unwrap()))
        .env("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000")
        .set("shutdown.flush", "1m")
        .start()
        .await;
    assert_eq!(service.get("/orders/7").await.status, 200);
    service.process.signal(Signal::TERM);
    service.process.says("\"stopped\"").await;
    service.process.signal(Signal::TERM);
    service.process.says(r#""skip_delay":true"#).await;
    service.process.signal(Signal::TERM);
    assert_eq!(service.process.exit_code().await, 143);
}

#[tokio::test]
async fn an_interrupt_skips_the_drain_delay_in_the_dev_profile_alone() {
    let mut service = Quickstart::new().set("shutdown.drain_delay", FOR_EVER).start().await;
    service.process.signal(Signal::INT);
    assert_eq!(service.process.exit_code().await, 0);
    let draining = &service.process.logged("draining: not ready, still serving")[0];
    assert_eq!((&draining["delay"], &draining["at_once"]), (&"0s".into(), &true.into()), "the log has the real delay");

    let mut service = Quickstart::new().arguments(&["--profile", "prod"]).start().await;
    service.process.signal(Signal::INT);
    let stopping = service.process.says("\"stopping\"").await;
    assert!(stopping.contains(r#""skip_delay":false"#), "{stopping}");
    assert_eq!(service.get("/orders/7").await.status, 200, "still serving");
    service.process.signal(Signal::INT);
    assert_eq!(service.process.exit_code().await, 0);
    assert_eq!(service.process.logged("draining: not ready, still serving")[0]["at_once"], false);
    assert_eq!(service.process.logged("the drain delay is cut short").len(), 1);
}

#[tokio::test]
async fn a_signal_during_start_up_ends_the_process_with_0() {
    let mut process = Quickstart::fixture().set("app.hangs_at_start", "true").spawn();
    process.says("hanging at start").await;
    process.signal(Signal::TERM);
    assert_eq!(process.exit_code().await, 0);
}

#[tokio::test]
async fn a_signal_while_the_configuration_is_read_is_heard() {
    let folder = Folder::new();
    let pipe = folder.path().join("settings.toml");
    assert!(Command::new("mkfifo").arg(&pipe).status().await.unwrap().success());
    let mut service = Command::new(binary());
    let service = service.arg("--config").arg(&pipe).args(["--set", "http.address=127.0.0.1:0"]);
    let mut service =
        service.args(["--set", "admin.address=127.0.0.1:0"]).kill_on_drop(true).stdout(Stdio::null()).spawn().unwrap();
    // Opens once the service reads from the other end, and so waits for its settings.
    let writer = tokio::task::spawn_blocking(move || std::fs::OpenOptions::new().write(true).open(pipe));
    let writer = timeout(PATIENCE, writer).await.unwrap().unwrap().unwrap();
    let pid = Pid::from_raw(service.id().unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    drop(writer);
    let status = timeout(PATIENCE, service.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0), "{status:?}");
}

#[tokio::test]
async fn tasks_end_before_hooks_and_hooks_run_last_added_first() {
    let mut service = Quickstart::fixture().start().await;
    service.process.says("the worker works").await;
    assert_eq!(service.terminate().await, 0);
    let position = |message: &str| {
        let lines = service.process.stdout();
        lines.iter().position(|line| line.contains(&format!("{message:?}"))).expect(message)
    };
    let steps = ["the worker was told to stop", "hook added last", "hook added first", "stopped"];
    assert!(steps.map(position).is_sorted(), "{:?}", service.process.stdout());
}

#[tokio::test]
async fn a_panicking_background_task_shows_in_health_and_is_started_again() {
    let mut service = Quickstart::fixture().set("app.task_panics", "true").start().await;
    service.process.says("the worker works").await;
    let health = service.operator("/health").await.json();
    let check = &health["checks"]["background:worker"];
    assert_eq!(check["status"], "degraded", "{health}");
    assert!(check["message"].as_str().unwrap().starts_with("panicked: the worker tripped"), "{health}");
    assert_eq!(health["ready"], true, "requests are still answered");
    let metrics = service.operator("/metrics").await.body;
    let restarts = metrics.lines().find(|line| line.starts_with("chassis_background_restarts"));
    assert!(restarts.is_some_and(|line| line.contains("worker") && line.ends_with(" 1")), "{restarts:?}");
    assert_eq!(service.terminate().await, 0);
}
