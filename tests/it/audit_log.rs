//! Who did what: a stream of its own that nothing thins out.

use axum::{Router, routing::get};
use chassis::{
    Chassis, audit,
    settings::NoSettings,
    telemetry::audit::Outcome,
    testing::{TestService, log_lines_of},
};
use serde_json::{Value, json};

use crate::support::{
    telemetry::{access_line, alone},
    telemetry_process::{quickstart, scratch},
};

async fn cancel() -> &'static str {
    audit!(
        actor = "ada",
        action = "order.cancelled",
        object = 7,
        outcome = Outcome::Success,
        reason = "late",
        token = "hunter2"
    );
    "cancelled"
}

fn audited(chassis: Chassis<NoSettings>) -> Chassis<NoSettings> {
    chassis.mount(Router::new().route("/cancel", get(cancel)))
}

fn check(line: &Value, trace_id: &str, sequence: u64) {
    let shown = |key: &str| line[key].clone();
    assert_eq!((shown("stream"), shown("sequence")), (json!("audit"), json!(sequence)), "{line}");
    let expected = ["ada", "order.cancelled", "7", "success"];
    assert_eq!(["actor", "action", "object", "outcome"].map(shown), expected.map(|word| json!(word)));
    assert_eq!(line["fields"], json!({ "reason": "late", "token": "***" }));
    assert_eq!((shown("trace_id"), shown("service.name")), (json!(trace_id), json!("service-under-test")));
    assert_eq!(line["span_id"].as_str().unwrap().len(), 16);
}

#[tokio::test]
async fn an_action_is_a_line_that_no_filter_and_no_sampling_takes_away() {
    if !alone("audit_log::an_action_is_a_line_that_no_filter_and_no_sampling_takes_away") {
        return;
    }
    let builder = TestService::builder()
        .set("log.filter", "off")
        .set("log.access.success_ratio", 0)
        .set("telemetry.sampling.ratio", 0);
    let service = builder.start(audited).await.unwrap();
    for sequence in 0..20 {
        let answer = service.get("/cancel").await.unwrap();
        let lines = log_lines_of(answer.header("x-trace-id"));
        assert_eq!(lines.len(), 1, "{lines:#?}");
        check(&lines[0], answer.header("x-trace-id"), sequence);
    }
    service.stop().await.unwrap();
}

#[tokio::test]
async fn actions_go_to_the_audit_file_and_nowhere_else() {
    if !alone("audit_log::actions_go_to_the_audit_file_and_nowhere_else") {
        return;
    }
    let path = scratch("audit.log");
    std::fs::write(&path, "{\"before\":true}\n").unwrap();
    let service = TestService::builder().set("log.audit.file", path.display()).start(audited).await.unwrap();
    let mut trace_ids = Vec::new();
    for _ in 0..3 {
        trace_ids.push(service.get("/cancel").await.unwrap().header("x-trace-id").to_owned());
    }
    access_line(&trace_ids[2]).await;
    service.stop().await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["before"]), (4, &json!(true)), "appended: {text}");
    for (sequence, trace_id) in trace_ids.iter().enumerate() {
        check(&lines[sequence + 1], trace_id, sequence as u64);
        assert!(log_lines_of(trace_id).iter().all(|line| line["stream"] != "audit"));
    }
}

#[test]
fn an_audit_file_that_cannot_be_written_refuses_the_start() {
    let folder = scratch("no-such-folder").join("audit.log");
    let run = quickstart(&[("CHASSIS_LOG__AUDIT__FILE", folder.to_str().unwrap())]).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(78), "{said}");
    assert!(said.contains("log.audit.file") && said.contains(folder.to_str().unwrap()), "{said}");
}
