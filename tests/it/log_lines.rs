//! What a line says, and what it never says.

use chassis::testing::{TestService, log_lines_of};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::telemetry::{access_line, alone, get_with, talkative};

#[tokio::test]
async fn every_line_of_a_request_carries_its_trace_and_a_span() {
    let service = TestService::start(talkative).await.unwrap();
    for path in ["/orders/7", "/spawned"] {
        let answer = service.get(path).await.unwrap();
        let trace_id = answer.header("x-trace-id");
        let access = access_line(trace_id).await;
        let lines = log_lines_of(trace_id);
        let said: Vec<_> = lines.iter().map(|line| line["at"].as_str().unwrap_or("access")).collect();
        let expected: &[&str] =
            if path == "/spawned" { &["outer", "inner", "access"] } else { &["handler", "outer", "inner", "access"] };
        assert_eq!(said, expected, "{path}");
        assert!(lines.iter().all(|line| line["span_id"].as_str().is_some_and(|id| id.len() == 16)), "{lines:#?}");
        // Spans go nowhere, so no trace starts as sampled.
        assert_eq!(access["sampled"], false);
    }
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_panic_is_a_line_with_the_trace_of_its_request_and_a_count() {
    let service = TestService::start(talkative).await.unwrap();
    let answer = service.get("/panic").await.unwrap();
    assert_eq!(answer.status, 500);
    let trace_id = answer.header("x-trace-id");
    assert!(answer.text().contains(trace_id) && !answer.text().contains("out of stock"), "{}", answer.text());
    assert_eq!(access_line(trace_id).await["level"], "ERROR");
    let lines = log_lines_of(trace_id);
    let line = lines.iter().find(|line| line["target"] == "chassis::panic").expect("a line of the panic");
    assert_eq!((&line["panic.message"], &line["level"]), (&Value::from("out of stock"), &Value::from("ERROR")));
    let scrape = service.metrics().await.unwrap();
    assert!(crate::support::telemetry::sample(&scrape, "chassis_panics_total", &[]).unwrap() >= 1.0);
    assert_eq!(service.get("/trace").await.unwrap().status, 200, "the process lives");
    service.stop().await.unwrap();
}

#[tokio::test]
async fn control_characters_cannot_forge_a_line() {
    let service = TestService::start(talkative).await.unwrap();
    let forged = "%0A%7B%22level%22:%22ERROR%22%7D%0D%1b[2J\"}{\"level\":\"ERROR";
    let agent = "x\",\"level\":\"ERROR\t\\";
    let mut stream = TcpStream::connect(service.http()).await.unwrap();
    let request = format!("GET /a/{forged} HTTP/1.1\r\nhost: x\r\nuser-agent: {agent}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let trace_id = answer.split("x-trace-id: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let line = access_line(trace_id.unwrap_or_else(|| panic!("no trace id: {answer}"))).await;
    assert_eq!(line["level"], "INFO", "{line}");
    assert_eq!(line["url.path"], format!("/a/{forged}"));
    assert_eq!(line["user_agent.original"], agent);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_secret_field_is_hidden_in_events_and_spans() {
    let service = TestService::start(talkative).await.unwrap();
    let answer = service.get("/orders/7").await.unwrap();
    let lines = log_lines_of(answer.header("x-trace-id"));
    let outer = lines.iter().find(|line| line["at"] == "outer").unwrap();
    assert_eq!(outer["spans"][0]["name"], "outer");
    assert_eq!((&outer["spans"][0]["password"], &outer["spans"][0]["id"]), (&"***".into(), &7.into()));
    assert!(!lines.iter().any(|line| line.to_string().contains("hunter2")), "{lines:#?}");
    service.stop().await.unwrap();
}

#[tokio::test]
async fn the_instance_is_on_every_line_when_asked_for() {
    if !alone("log_lines::the_instance_is_on_every_line_when_asked_for") {
        return;
    }
    let builder = TestService::builder().set("log.resource", true).set("service.instance_id", "i-7");
    let service = builder.start(talkative).await.unwrap();
    let answer = get_with(&service, "/orders/7", &[]).await;
    access_line(answer.header("x-trace-id")).await;
    let lines = log_lines_of(answer.header("x-trace-id"));
    assert!(lines.len() == 4 && lines.iter().all(|line| line["service.instance.id"] == "i-7"), "{lines:#?}");
    service.stop().await.unwrap();
}
