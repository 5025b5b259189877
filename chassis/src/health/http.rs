//! The probes over HTTP, for kubelets, load balancers and people.
//!
//! `/livez`, `/readyz`, `/startupz` answer 200 or 503 with one line of text, or JSON when `accept` asks for it; `?verbose` adds
//! each check's status. They stand on the main port too, so they show names and statuses, never a check's message. `/health`
//! shows everything and belongs on the admin port. No answer may be cached.

use std::collections::BTreeMap;

use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};

use super::{Criticality, Registry, Report, Status};

/// `/livez`, `/readyz` and `/startupz`, for GET and HEAD.
pub fn probes(registry: Registry) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/startupz", get(startupz))
        .with_state(registry)
}

/// `/health`: every check with its status, criticality, cause, age, duration and thresholds, as JSON. 200 when ready, else 503.
pub fn detail(registry: Registry) -> Router {
    Router::new().route("/health", get(health)).with_state(registry)
}

async fn livez(headers: HeaderMap, uri: Uri) -> Response {
    // No checks, not even with ?verbose: liveness does not look at them, and neither should whoever reads it.
    answer(&headers, &uri, None, None)
}

async fn readyz(State(registry): State<Registry>, headers: HeaderMap, uri: Uri) -> Response {
    let report = registry.report();
    answer(&headers, &uri, report.why_not_ready(), Some(&report))
}

async fn startupz(State(registry): State<Registry>, headers: HeaderMap, uri: Uri) -> Response {
    let report = registry.report();
    answer(&headers, &uri, report.why_not_started(), Some(&report))
}

async fn health(State(registry): State<Registry>) -> Response {
    let report = registry.report();
    uncached(status_code(report.summary.ready), Json(report))
}

#[derive(serde::Serialize)]
struct Body<'a> {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<BTreeMap<&'a str, Status>>,
}

fn answer(headers: &HeaderMap, uri: &Uri, reason: Option<String>, report: Option<&Report>) -> Response {
    let shown = report.filter(|_| wants_checks(uri));
    let code = status_code(reason.is_none());
    if wants_json(headers) {
        let checks =
            shown.map(|report| report.checks.iter().map(|(name, check)| (name.as_str(), check.status)).collect());
        return uncached(code, Json(Body { ok: reason.is_none(), reason, checks }));
    }
    let mut text = String::new();
    for (name, check) in shown.iter().flat_map(|report| &report.checks) {
        let mark = if check.status.is_able() { '+' } else { '-' };
        let note = if check.criticality == Criticality::NotCritical { " (not critical)" } else { "" };
        text.push_str(&format!("[{mark}] {name}: {}{note}\n", check.status));
    }
    match reason {
        None => text.push_str("ok\n"),
        Some(reason) => text.push_str(&format!("failed: {reason}\n")),
    }
    uncached(code, text)
}

fn uncached(code: StatusCode, body: impl IntoResponse) -> Response {
    (code, [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], body).into_response()
}

fn status_code(ok: bool) -> StatusCode {
    if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// `?verbose`, alone or with any value.
fn wants_checks(uri: &Uri) -> bool {
    let pairs = uri.query().unwrap_or_default().split('&');
    pairs.map(|pair| pair.split_once('=').map_or(pair, |(key, _)| key)).any(|key| key == "verbose")
}

fn wants_json(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with("application/json"))
}

#[cfg(test)]
mod tests {
    use http::{Method, Request};
    use http_body_util::BodyExt;
    use tower_service::Service;

    use super::*;

    /// Sends one request; gives status, body and `cache-control`.
    async fn ask(registry: &Registry, method: Method, path: &str, accept: &str) -> (u16, String, String) {
        let mut router = probes(registry.clone()).merge(detail(registry.clone()));
        let request = Request::builder().method(method).uri(path).header("accept", accept);
        let request = request.body(axum::body::Body::empty()).expect("a request");
        let response = router.call(request).await.expect("a router does not fail");
        let code = response.status().as_u16();
        let cache = response.headers()["cache-control"].to_str().expect("text").to_owned();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (code, String::from_utf8(body.to_vec()).expect("text"), cache)
    }

    async fn check(registry: &Registry, path: &str, code: u16, body: &str) {
        let answer = ask(registry, Method::GET, path, "*/*").await;
        assert_eq!(answer, (code, body.to_owned(), "no-store".to_owned()), "{path}");
    }

    #[tokio::test]
    async fn the_probes_follow_the_life_of_the_instance() {
        let registry = Registry::default();
        check(&registry, "/livez", 200, "ok\n").await;
        check(&registry, "/startupz", 503, "failed: starting\n").await;
        check(&registry, "/readyz", 503, "failed: starting\n").await;
        registry.mark_started();
        check(&registry, "/startupz", 200, "ok\n").await;
        check(&registry, "/readyz", 200, "ok\n").await;
        let db = registry.reporter("db", Criticality::Critical);
        db.down("secret host refused");
        check(&registry, "/readyz", 503, "failed: db is down\n").await;
        check(&registry, "/startupz", 200, "ok\n").await;
        check(&registry, "/livez", 200, "ok\n").await;
        db.up();
        registry.set_draining();
        check(&registry, "/readyz", 503, "failed: draining\n").await;
        check(&registry, "/livez", 200, "ok\n").await;
    }

    #[tokio::test]
    async fn verbose_shows_statuses_and_no_message() {
        let registry = Registry::default();
        registry.reporter("db", Criticality::Critical).down("secret host refused");
        registry.mark_started();
        check(&registry, "/readyz?verbose", 503, "[-] db: down\n[+] panics: up (not critical)\nfailed: db is down\n")
            .await;
        check(&registry, "/livez?verbose=1", 200, "ok\n").await;
        let (code, body, _) = ask(&registry, Method::GET, "/readyz?verbose", "text/html, application/json").await;
        assert_eq!(
            (code, body.as_str()),
            (503, r#"{"ok":false,"reason":"db is down","checks":{"db":"down","panics":"up"}}"#)
        );
        let (code, body, _) = ask(&registry, Method::GET, "/livez", "application/json").await;
        assert_eq!((code, body.as_str()), (200, r#"{"ok":true}"#));
    }

    #[tokio::test]
    async fn head_has_the_status_and_no_body() {
        let registry = Registry::default();
        assert_eq!(ask(&registry, Method::HEAD, "/readyz", "*/*").await, (503, String::new(), "no-store".into()));
        assert_eq!(ask(&registry, Method::HEAD, "/livez", "*/*").await, (200, String::new(), "no-store".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_detail_names_everything_about_a_check() {
        let registry = Registry::default();
        registry.check("db", || async { Err::<(), _>(std::io::Error::other("refused")) });
        let _task = tokio::spawn(registry.run(tokio_util::sync::CancellationToken::new()));
        registry.first_run().await;
        registry.mark_started();
        tokio::time::advance(std::time::Duration::from_millis(1500)).await;
        let (code, body, _) = ask(&registry, Method::GET, "/health", "*/*").await;
        assert_eq!(code, 503, "{body}");
        let json: serde_json::Value = serde_json::from_str(&body).expect("json");
        assert_eq!((&json["status"], &json["ready"], &json["started"]), (&"down".into(), &false.into(), &true.into()));
        let expected = serde_json::json!({
            "status": "down", "criticality": "critical", "message": "refused",
            "since_seconds": 1.5, "age_seconds": 1.5, "duration_seconds": 0.0,
            "interval_seconds": 5.0, "timeout_seconds": 1.0, "failures_to_fall": 3, "successes_to_rise": 2,
            "consecutive_failures": 1, "consecutive_successes": 0,
        });
        assert_eq!(json["checks"]["db"], expected);
        assert_eq!(json["checks"]["panics"]["status"], "up");
        assert!(json["checks"]["panics"].get("interval_seconds").is_none());
    }
}
