//! The operators' port: probes on both, details and `/admin/…` only there and only for those who may.

use axum::{Router, routing::get};
use chassis::{
    Chassis,
    testing::{TestResponse, TestService},
};
use http::Request;

use crate::support::raw::{PATIENCE, Raw};

const TOKEN: &str = "a-token-of-some-length";

async fn service() -> TestService {
    let routes = Router::new().route("/", get(|| async { "mine" }));
    let builder = TestService::builder().set("admin.token", TOKEN);
    builder.start(|chassis: Chassis| chassis.mount(routes)).await.unwrap()
}

async fn ask(service: &TestService, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> TestResponse {
    let mut request = Request::builder().method(method).uri(format!("http://{}{path}", service.admin()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    service.send(request.body(body.to_owned()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn the_root_lists_what_the_operators_port_has() {
    let service = service().await;
    let token = format!("Bearer {TOKEN}");
    let list = service.operator("/").await.unwrap().text();
    let paths: Vec<_> = list.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert!(paths.contains(&"/metrics") && paths.contains(&"/admin/log-filter"), "{list}");
    for path in paths.iter().filter(|path| !path.contains('{')) {
        let answer = ask(&service, "GET", path, &[("authorization", &token)], "").await;
        assert_eq!(answer.status, 200, "{path}");
    }
    for path in ["/", "/admin", "/admin/"] {
        let page = ask(&service, "GET", path, &[("accept", "text/html,*/*;q=0.8")], "").await;
        assert!(page.header("content-type").starts_with("text/html"), "{path}");
        assert!(page.text().contains("<a href=\"/admin/dependencies\">"), "{}", page.text());
    }
    service.stop().await.unwrap();
}

#[tokio::test]
async fn probes_are_on_both_ports_and_details_on_the_operators_alone() {
    let service = service().await;
    for probe in ["/livez", "/readyz", "/startupz"] {
        assert_eq!(service.get(probe).await.unwrap().status, 200, "{probe}");
        assert_eq!(service.operator(probe).await.unwrap().status, 200, "{probe}");
    }
    for page in ["/health", "/metrics", "/info", "/admin/config", "/admin/log-filter"] {
        assert_eq!(service.get(page).await.unwrap().status, 404, "{page}");
        assert_eq!(service.operator(page).await.unwrap().status, 200, "{page}");
    }
    let lost = service.operator("/nowhere").await.unwrap();
    assert_eq!((lost.status.as_u16(), &lost.json()["code"]), (404, &"not_found".into()));
}

#[tokio::test]
async fn a_wrong_token_is_401_whatever_its_length() {
    let service = service().await;
    let longer = format!("{TOKEN}x");
    for wrong in ["a", &TOKEN[1..], &longer, "b-token-of-some-length", &"x".repeat(5000)] {
        let answer = ask(&service, "GET", "/admin/config", &[("authorization", &format!("Bearer {wrong}"))], "").await;
        assert_eq!((answer.status.as_u16(), answer.header("www-authenticate")), (401, "Bearer"), "{wrong}");
        assert_eq!(answer.json()["code"], "unauthenticated");
    }
    let right = ask(&service, "GET", "/admin/config", &[("authorization", &format!("Bearer {TOKEN}"))], "").await;
    assert_eq!(right.status, 200);
}

#[tokio::test]
async fn the_configuration_is_shown_with_its_origins_and_without_its_secrets() {
    let service = service().await;
    let answer = service.operator("/admin/config").await.unwrap();
    assert!(!answer.text().contains(TOKEN));
    let entries = answer.json();
    let entry = |key: &str| entries.as_array().unwrap().iter().find(|entry| entry["key"] == key).unwrap().clone();
    assert_eq!(entry("admin.token")["value"], "\"***\"", "{entries}");
    assert!(entry("http.address")["origin"].as_str().unwrap().contains("--set"), "{entries}");
}

#[tokio::test]
async fn a_page_from_elsewhere_cannot_reach_the_operators_pages_by_rebinding() {
    let service = service().await;
    for host in ["rebound.example", "rebound.example:8081", "localhost.rebound.example", "127.0.0.1.rebound.example"] {
        let answer = ask(&service, "GET", "/admin/config", &[("host", host)], "").await;
        assert_eq!(answer.status, 401, "{host}");
    }
    for host in ["localhost:8081", "127.0.0.1", "[::1]:8081"] {
        assert_eq!(ask(&service, "GET", "/admin/config", &[("host", host)], "").await.status, 200, "{host}");
    }
}

#[tokio::test]
async fn a_log_filter_that_is_none_is_refused() {
    let service = service().await;
    let refused = ask(&service, "PUT", "/admin/log-filter", &[], "{\"filter\": \"a=b=c\"}").await;
    assert_eq!((refused.status.as_u16(), &refused.json()["code"]), (400, &"invalid_request".into()));
    assert_eq!(ask(&service, "PUT", "/admin/log-filter", &[], "nonsense").await.status, 400);
    let answer = ask(&service, "PUT", "/admin/log-filter", &[("host", "rebound.example")], "{}").await;
    assert_eq!(answer.status, 401);
}

/// The process's subscriber is one, so this needs a process of its own.
#[tokio::test]
async fn an_operator_changes_the_log_filter_for_a_while() {
    let folder = std::env::temp_dir().join(format!("chassis-door-filter-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let ready = folder.join("ready.json");
    let binary = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("quickstart");
    assert!(binary.exists(), "quickstart is not built; run `cargo xtask test`, or `cargo build -p quickstart` first");
    let process = tokio::process::Command::new(binary)
        .current_dir(&folder)
        .args(["serve", "--set", "http.address=127.0.0.1:0", "--set", "admin.address=127.0.0.1:0", "--ready-file"])
        .arg(&ready)
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let address = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Ok(text) = std::fs::read(&ready) {
                let written: serde_json::Value = serde_json::from_slice(&text).unwrap();
                break written["admin"].as_str().unwrap().parse().unwrap();
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    // What it says on standard error is on the test's own.
    let standing = || crate::support::account::standing(process.id());
    let address = address.await.unwrap_or_else(|_| panic!("the service is not ready: {}", standing()));
    let mut raw = Raw::connect(address).await;
    let body = "{\"filter\": \"info,door=trace\", \"ttl\": \"1s\"}";
    let length = body.len();
    raw.send(format!("PUT /admin/log-filter HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n{body}"))
        .await;
    let status = raw.answer().await.unwrap().json();
    assert_eq!(
        (&status["origin"], &status["configured"]),
        (&"override".into(), &"info,opentelemetry=warn".into()),
        "{status}"
    );
    assert!(status["filter"].as_str().unwrap().contains("door=trace"), "{status}");
    let ended = tokio::time::timeout(PATIENCE, async {
        while raw.get("/admin/log-filter").await.json()["origin"] != "configured" {}
    });
    ended.await.expect("the filter is as before");
    std::fs::remove_dir_all(&folder).unwrap();
}
