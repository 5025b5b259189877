//! The document and its page on the main port.

use axum::{Router, routing::get};
use chassis::{Chassis, settings::NoSettings, testing::TestService};
use http::{Method, Request};

use crate::support::catalogue::Catalogue;

async fn with<F: FnOnce(Chassis<NoSettings>) -> Chassis<NoSettings>>(
    set: &[(&str, &str)],
    make: F,
) -> chassis::Result<TestService> {
    let builder = set.iter().fold(TestService::builder(), |builder, (key, value)| builder.set(key, value));
    builder.start(make).await
}

fn catalogue(chassis: Chassis) -> Chassis {
    chassis.mount(Catalogue::default())
}

#[tokio::test]
async fn the_document_is_served_and_need_not_be_sent_twice() {
    let service = TestService::start(catalogue).await.unwrap();
    let document = service.get("/openapi.json").await.unwrap();
    assert_eq!((document.status.as_u16(), document.header("content-type")), (200, "application/json"));
    assert_eq!(document.json()["info"]["title"], "service-under-test");
    let ask = |method: Method, tag: &str| {
        let request = Request::builder().method(method).uri(format!("http://{}/openapi.json", service.http()));
        service.send(request.header("if-none-match", tag).body(String::new()).unwrap())
    };
    let tag = document.header("etag").to_owned();
    for known in [tag.clone(), format!("\"other\", W/{tag}"), "*".to_owned()] {
        let again = ask(Method::GET, &known).await.unwrap();
        assert_eq!((again.status.as_u16(), again.body.len(), again.header("etag")), (304, 0, tag.as_str()), "{known}");
    }
    let other = ask(Method::GET, "\"other\"").await.unwrap();
    assert_eq!(other.body, document.body);
    let head = ask(Method::HEAD, "\"other\"").await.unwrap();
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), document.body.len().to_string());
}

#[tokio::test]
async fn the_page_takes_everything_from_the_service_itself_by_relative_addresses() {
    let service = TestService::start(catalogue).await.unwrap();
    let page = service.get("/docs").await.unwrap();
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self';"), "{policy}");
    let text = page.text();
    assert!(!text.contains("<script>") && !text.contains("http"), "{text}");
    let addresses: Vec<_> =
        text.split(['"']).filter(|piece| piece.starts_with("docs/") || piece.starts_with('/')).collect();
    assert_eq!(addresses, ["docs/swagger-ui.css", "docs/swagger-ui-bundle.js", "docs/start.js"]);
    for (address, start) in addresses.into_iter().zip([".swagger-ui", "/*! For license", "// Requests go"]) {
        let asset = service.get(&format!("/{address}")).await.unwrap();
        assert_eq!(asset.status, 200, "{address}");
        let bytes = match asset.header("content-encoding") {
            "gzip" => crate::support::python::gunzip(&asset.body).await,
            _ => asset.body.to_vec(),
        };
        assert!(bytes.starts_with(start.as_bytes()), "{address}: {:?}", String::from_utf8_lossy(&bytes[..40]));
    }
    // A slash behind it would move every relative address.
    let slash = service.get("/docs/").await.unwrap();
    assert_eq!((slash.status.as_u16(), slash.header("location")), (308, "../docs"));
}

#[tokio::test]
async fn a_service_without_described_routes_serves_neither() {
    let plain = Router::new().route("/plain", get(|| async { "plain" }));
    let service = TestService::start(|chassis: Chassis| chassis.mount(plain)).await.unwrap();
    for path in ["/openapi.json", "/docs"] {
        assert_eq!(service.get(path).await.unwrap().status, 404, "{path}");
    }
}

#[tokio::test]
async fn each_can_be_turned_off() {
    let off = with(&[("openapi.enabled", "false")], catalogue).await.unwrap();
    let no_page = with(&[("openapi.page", "false")], catalogue).await.unwrap();
    for (service, document) in [(off, 404), (no_page, 200)] {
        assert_eq!(service.get("/openapi.json").await.unwrap().status, document);
        for path in ["/docs", "/docs/", "/docs/start.js"] {
            assert_eq!(service.get(path).await.unwrap().status, 404, "{path}");
        }
    }
}

struct Own;

#[chassis::service]
impl Own {
    #[get("/openapi.json")]
    async fn document(&self) -> String {
        "own".to_owned()
    }
}

struct OwnPage;

#[chassis::service]
impl OwnPage {
    #[get("/docs")]
    async fn page(&self) -> String {
        "own".to_owned()
    }
}

#[tokio::test]
async fn a_services_own_route_wins() {
    let document = TestService::start(|chassis: Chassis| chassis.mount(Own)).await.unwrap();
    let page = TestService::start(|chassis: Chassis| chassis.mount(OwnPage)).await.unwrap();
    assert_eq!(document.get("/openapi.json").await.unwrap().text(), "\"own\"");
    assert_eq!(document.get("/docs").await.unwrap().status, 404, "the page would show another document");
    assert_eq!(page.get("/docs").await.unwrap().text(), "\"own\"");
    assert_eq!(page.get("/openapi.json").await.unwrap().json()["paths"]["/docs"]["get"]["operationId"], "page");
}

#[tokio::test]
async fn a_plain_routers_path_is_refused_with_what_to_do() {
    let plain = || Router::new().route("/docs", get(|| async { "plain" }));
    let refused = TestService::start(|chassis: Chassis| chassis.mount(Catalogue::default()).mount(plain())).await;
    let refused = refused.expect_err("two answers to one path");
    assert_eq!(refused.exit().code(), 78);
    let text = refused.to_string();
    assert!(text.contains("GET /docs") && text.contains("openapi.enabled = false"), "{text}");
    let service =
        with(&[("openapi.page", "false")], |chassis| chassis.mount(Catalogue::default()).mount(plain())).await.unwrap();
    assert_eq!(service.get("/docs").await.unwrap().text(), "plain");
}
