//! Rejections over HTTP: problems with a code and the trace id of the header, whoever refuses.

use axum::{Router, routing::get};
use chassis::{Chassis, settings::NoSettings, testing::TestService};

use crate::support::{
    raw::{Answer, Raw},
    scrape::sum,
};

#[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
struct Note {
    text: String,
}

struct Notes;

#[chassis::service]
impl Notes {
    #[get("/notes/{id}")]
    async fn note(&self, id: u32) -> Note {
        Note { text: id.to_string() }
    }

    #[post("/notes")]
    async fn keep(&self, note: Note) -> Note {
        note
    }
}

fn service(chassis: Chassis<NoSettings>) -> Chassis<NoSettings> {
    let inner = Router::new().route("/leaf/{id}", get(|| async { "leaf" }));
    chassis.mount(Notes).mount(Router::new().nest("/nested/{tenant}", inner))
}

async fn answer_to(service: &TestService, request: &str) -> Answer {
    let mut raw = Raw::connect(service.http()).await;
    raw.send(request).await;
    raw.answer().await.unwrap()
}

#[tokio::test]
async fn every_misfit_is_a_problem_with_its_status() {
    let service = TestService::start(service).await.unwrap();
    let post = |kind: &str, body: &str| {
        let length = body.len();
        format!("POST /notes HTTP/1.1\r\nhost: a\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}")
    };
    for (status, code, request) in [
        (400, "invalid_request", post("application/json", "{\"text\":")),
        (400, "invalid_request", post("application/json", "")),
        (422, "invalid_request", post("application/json", "{\"text\": 7}")),
        (422, "invalid_request", post("application/json", "{}")),
        (415, "invalid_request", post("text/plain", "{\"text\": \"a\"}")),
        (400, "invalid_request", "GET /notes/seven HTTP/1.1\r\nhost: a\r\n\r\n".into()),
        (404, "not_found", "GET /nowhere HTTP/1.1\r\nhost: a\r\n\r\n".into()),
        (404, "not_found", "GET //notes/7 HTTP/1.1\r\nhost: a\r\n\r\n".into()),
        (405, "method_not_allowed", "DELETE /notes HTTP/1.1\r\nhost: a\r\n\r\n".into()),
        (405, "method_not_allowed", "BREW /notes HTTP/1.1\r\nhost: a\r\n\r\n".into()),
    ] {
        answer_to(&service, &request).await.assert_problem(status, code);
    }
}

#[tokio::test]
async fn a_405_keeps_the_methods_that_are_allowed() {
    let service = TestService::start(service).await.unwrap();
    let answer = answer_to(&service, "DELETE /notes HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(answer.header("allow"), "POST");
    let answer = answer_to(&service, "DELETE /notes/7 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(answer.header("allow"), "GET,HEAD");
}

#[tokio::test]
async fn head_is_answered_as_get_without_the_body_and_the_connection_goes_on() {
    let service = TestService::start(service).await.unwrap();
    let mut raw = Raw::connect(service.http()).await;
    for (path, status) in [("/notes/7", 200), ("/nowhere", 404), ("/notes/seven", 400)] {
        raw.send(format!("HEAD {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        let head = raw.answer_to(false).await.unwrap();
        assert_eq!((head.status, head.header("x-trace-id").len()), (status, 32), "{head:?}");
        let get = raw.get(path).await;
        assert_eq!(get.status, status);
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
    }
}

#[tokio::test]
async fn a_trace_id_that_the_caller_sent_is_the_problems() {
    let service = TestService::start(service).await.unwrap();
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("traceparent: 00-{trace}-b7ad6b7169203331-01\r\n");
    let answer = answer_to(&service, &format!("GET /nowhere HTTP/1.1\r\nhost: a\r\n{parent}\r\n")).await;
    answer.assert_problem(404, "not_found");
    assert_eq!(answer.header("x-trace-id"), trace);
}

#[tokio::test]
async fn a_fallback_of_the_users_own_keeps_its_page() {
    let own = Router::new()
        .route("/", get(|| async { "home" }))
        .fallback(|| async { (http::StatusCode::NOT_FOUND, axum::response::Html("<h1>lost</h1>")) });
    let service = TestService::start(|chassis: Chassis| chassis.mount(own)).await.unwrap();
    let answer = service.get("/nowhere").await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (404, "<h1>lost</h1>"));
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
}

#[tokio::test]
async fn a_nested_route_is_measured_by_its_template_and_random_paths_by_one_word() {
    let service = TestService::start(service).await.unwrap();
    for id in 0..20 {
        assert_eq!(service.get(&format!("/nested/t{id}/leaf/{id}")).await.unwrap().text(), "leaf");
        assert_eq!(service.get(&format!("/random/{id}")).await.unwrap().status, 404);
        assert_eq!(service.get(&format!("/nested/t{id}/random{id}")).await.unwrap().status, 404);
    }
    let scrape = service.metrics().await.unwrap();
    let count =
        |route: &str| sum(&scrape, "http_server_request_duration_seconds_count", &[&format!("http_route=\"{route}\"")]);
    assert_eq!(count("/nested/{tenant}/leaf/{id}"), 20.0);
    assert_eq!(count("unmatched"), 40.0, "{scrape}");
    assert!(!scrape.contains("random"));
}
