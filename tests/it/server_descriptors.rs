//! Descriptors used up: the operators' port answers, and the log stays readable.

use std::time::Instant;

use crate::support::{
    http1::Connection,
    process::{Quickstart, Service},
};

/// Descriptors that the process may have, far fewer than the connections that are opened.
const LIMIT: u32 = 128;

/// As many warnings of the accept loops as seconds have passed, give or take one.
fn warnings_are_rare(service: &Service, since: Instant) {
    let lines = service.process.stdout();
    let warnings = lines.iter().filter(|line| line.contains("cannot accept connections")).count() as u64;
    assert!(warnings <= since.elapsed().as_secs() + 1, "{warnings} warnings in {:?}", since.elapsed());
}

#[tokio::test]
async fn the_probes_answer_while_callers_hold_every_connection() {
    let service = Quickstart::new().open_files(LIMIT).start().await;
    let since = Instant::now();
    let mut held = Vec::new();
    for _ in 0..LIMIT * 2 {
        let mut connection = Connection::open(service.http).await.expect("room in the kernel's queue");
        connection.write("GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sent");
        held.push(connection);
    }
    // The first is served, so the accept loop was there.
    assert_eq!(held[0].answer().await.expect("an answer").status, 200);
    assert_eq!(service.operator("/livez").await.status, 200);
    service.process.says("http.max_connections is more than").await;
    warnings_are_rare(&service, since);
}

#[tokio::test]
async fn the_probes_answer_when_the_service_uses_up_all_descriptors() {
    let service = Quickstart::fixture().open_files(LIMIT).start().await;
    let since = Instant::now();
    assert_eq!(service.get("/use-up-descriptors").await.status, 200);
    for _ in 0..3 {
        assert_eq!(service.operator("/livez").await.status, 200);
    }
    warnings_are_rare(&service, since);
}
