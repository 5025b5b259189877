//! `#[fallback]`: what answers in place of a call that has failed, and how that stays visible.

use std::{
    future::{Ready, ready},
    task::{Context, Poll},
};

use bytes::Bytes;
use chassis::{
    Chassis,
    client::{CallError, CallErrorKind, Client, RequestBody, client},
    service::service,
    testing::{TestService, log_lines_of},
};
use http::{Request, Response};
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use tower_service::Service;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Stock {
    sku: String,
    count: Option<u32>,
}

#[client]
trait StockApi: Send + Sync {
    #[get("/stock/{sku}")]
    #[fallback(unknown)]
    async fn stock(&self, sku: &str) -> Result<Stock, CallError>;

    /// The first choice is another service's.
    #[get("/near/{sku}")]
    #[fallback(stock)]
    async fn near(&self, sku: &str) -> Result<Stock, CallError>;

    #[post("/count")]
    #[fallback(nothing)]
    async fn count(&self, skus: Vec<String>) -> Result<u32, NotCounted>;

    async fn unknown(&self, sku: &str) -> Result<Stock, CallError> {
        Ok(Stock { sku: sku.to_owned(), count: None })
    }

    async fn nothing(&self, skus: Vec<String>, error: &CallError) -> Result<u32, NotCounted> {
        Err(NotCounted(format!("{} not counted: {:?}", skus.len(), error.kind())))
    }
}

/// An error of the domain's.
#[derive(Debug)]
struct NotCounted(String);

impl From<CallError> for NotCounted {
    fn from(error: CallError) -> Self {
        Self(error.to_string())
    }
}

/// A service that answers each path as the function says.
#[derive(Clone)]
struct Answers<A>(A);

impl<A: Fn(&str) -> (u16, &'static str)> Service<Request<RequestBody>> for Answers<A> {
    type Response = Response<Full<Bytes>>;
    type Error = http::Error;
    type Future = Ready<Result<Self::Response, http::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), http::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let (status, body) = (self.0)(request.uri().path());
        let body = Full::new(Bytes::from_static(body.as_bytes()));
        ready(Response::builder().status(status).header("content-type", "application/json").body(body))
    }
}

fn answering(answer: impl Fn(&str) -> (u16, &'static str) + Clone + Send + Sync + 'static) -> StockApiClient {
    StockApiClient::new(Client::with_service("http://stock:8080", Answers(answer)).expect("an address"))
}

const PEAR: &str = r#"{"sku":"pear","count":7}"#;

#[tokio::test]
async fn a_failure_of_the_service_is_answered_by_the_fallback() {
    for (status, body) in
        [(500, ""), (502, ""), (503, ""), (504, ""), (429, ""), (408, ""), (302, ""), (200, "nonsense")]
    {
        let stock = answering(move |_| (status, body));
        assert_eq!(stock.stock("pear").await.unwrap().count, None, "{status} {body:?}");
    }
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let stock = StockApiClient::new(Client::new(&format!("http://{gone}")).unwrap());
    assert_eq!(stock.stock("pear").await.unwrap().sku, "pear");
}

#[tokio::test]
async fn a_call_that_is_wrong_itself_is_not() {
    for status in [400, 401, 403, 404, 409, 422] {
        let error = answering(move |_| (status, "")).stock("pear").await.unwrap_err();
        assert_eq!(error.status().map(|status| status.as_u16()), Some(status));
    }
    let error = answering(|_| (200, PEAR)).stock("").await.unwrap_err();
    assert_eq!(error.kind(), CallErrorKind::InvalidArgument);
}

#[tokio::test]
async fn a_call_that_is_well_has_its_own_answer() {
    assert_eq!(answering(|_| (200, PEAR)).stock("pear").await.unwrap().count, Some(7));
}

#[tokio::test]
async fn a_fallback_may_be_a_call_with_a_fallback_of_its_own() {
    let near_is_down = answering(|path| if path.starts_with("/near") { (503, "") } else { (200, PEAR) });
    assert_eq!(near_is_down.near("pear").await.unwrap().count, Some(7));
    assert_eq!(answering(|_| (503, "")).near("pear").await.unwrap().count, None);
}

#[tokio::test]
async fn a_fallback_may_look_at_the_error_and_give_one_of_its_own() {
    let error = answering(|_| (503, "")).count(vec!["pear".to_owned()]).await.unwrap_err();
    assert_eq!(error.0, "1 not counted: UnexpectedStatus");
}

struct Shop {
    stock: StockApiClient,
}

#[service]
impl Shop {
    #[get("/shop/{sku}")]
    async fn shop(&self, sku: String) -> Result<Stock, CallError> {
        self.stock.stock(&sku).await
    }
}

#[tokio::test]
async fn a_fallback_is_told_in_the_log_with_the_trace_of_the_request() {
    let shop = Shop { stock: answering(|_| (503, "")) };
    let service = TestService::start(|chassis: Chassis| chassis.mount(shop)).await.unwrap();
    let answer = service.get("/shop/pear").await.unwrap();
    assert_eq!(answer.status.as_u16(), 200);
    let lines = log_lines_of(answer.header("x-trace-id"));
    let line = lines.iter().find(|line| line["message"] == "a fallback answers for a call out").expect("a line");
    for (field, expected) in [
        ("destination", "stock:8080"),
        ("method", "GET /stock/{sku}"),
        ("cause", "dependency_failed"),
        ("fallback", "unknown"),
        ("error", "GET http://stock:8080/stock/pear: found the status 503, expected a success (2xx)"),
    ] {
        assert_eq!(line["fields"][field].as_str().or(line[field].as_str()), Some(expected), "{field} of {line:#}");
    }
    service.stop().await.unwrap();
}
