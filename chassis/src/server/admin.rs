//! The operators' port: probes, metrics, and under `/admin/…` what is only for those who may see it.
//!
//! `/admin/…` answers callers on loopback and callers with the admin token; all others hear 401. A browser's page cannot
//! reach it from elsewhere: writes need a token or a plain client, and names other than addresses and `localhost` are refused
//! on loopback, which ends DNS rebinding.

use std::{
    convert::Infallible,
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{FromRequestParts, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, put},
};
use http::{header, request::Parts};
use hyper::body::Incoming;
use serde::Deserialize;
use tower_service::Service;

use super::{OnConnection, dependencies};
use crate::{
    cause::Cause,
    chassis::Destinations,
    config::{self, Loaded, Secret},
    context::Protocol,
    health::{self, Registry},
    identity::Identity,
    observe::connection::Connection,
    problem::Problem,
    reject::{answer, reject},
    service::RouteInfo,
    settings::Settings,
    stack::LayerInfo,
    telemetry::{audit, log::LogControl, metrics::Metrics},
};

/// How many connections the operators' port serves at once. Chosen: a few scrapers, probes and people.
pub(crate) const MAX_CONNECTIONS: u32 = 256;

/// Where the list of the pages is.
const INDEX_PATHS: [&str; 3] = ["/", "/admin", "/admin/"];

const HTML: &[u8] = b"text/html";

/// What the operators' port answers, as its list has it.
const PAGES: [(&str, &str); 14] = [
    ("/livez", "the process answers"),
    ("/readyz", "it takes traffic; ?verbose has the checks"),
    ("/startupz", "start-up has ended"),
    ("/health", "every check with its message"),
    ("/metrics", "all metrics, for Prometheus"),
    ("/info", "who this is and what was built"),
    ("/admin/config", "every setting and where it comes from"),
    ("/admin/routes", "what the main port serves"),
    ("/admin/layers", "what a request and a call pass"),
    ("/admin/dependencies", "the destinations of calls out, worst first"),
    ("/admin/dependencies/{name}/breaker", "PUT: hold a breaker open, or let everything through"),
    ("/admin/log-filter", "the log filter in force; PUT another for a while, DELETE it"),
    ("/", "this list"),
    ("/admin", "this list"),
];

/// What the operators' pages are made from.
pub(crate) struct Operator {
    pub(crate) identity: Identity,
    pub(crate) health: Registry,
    pub(crate) metrics: Metrics,
    pub(crate) log: LogControl,
    pub(crate) settings: tokio::sync::watch::Receiver<Loaded<Settings>>,
    pub(crate) routes: Vec<RouteInfo>,
    pub(crate) layers: Vec<LayerInfo>,
    pub(crate) destinations: Destinations,
    pub(crate) token: Option<Secret<String>>,
}

/// The routes of the operators' port.
pub(crate) fn routes(operator: Operator) -> AdminService {
    let health = operator.health.clone();
    let operator = Arc::new(operator);
    let guarded = Router::new()
        .route("/admin/config", get(config))
        .route("/admin/routes", get(route_list))
        .route("/admin/layers", get(layer_list))
        .route("/admin/dependencies", get(dependencies::list))
        .route("/admin/dependencies/{name}", get(dependencies::one))
        .route("/admin/dependencies/{name}/breaker", put(dependencies::force))
        .route("/admin/log-filter", get(log_filter).put(set_log_filter).delete(clear_log_filter))
        .layer(middleware::from_fn_with_state(operator.clone(), guard));
    let open = Router::new().route("/metrics", get(metrics)).route("/info", get(info));
    let open = INDEX_PATHS.into_iter().fold(open, |open, path| open.route(path, get(index)));
    let router = open
        .merge(guarded)
        .fallback(|| async { reject(Cause::NotFound, Protocol::Http) })
        .with_state(operator)
        .merge(health::http::probes(health.clone()))
        .merge(health::http::detail(health));
    AdminService { router, connection: None }
}

async fn metrics(State(operator): State<Arc<Operator>>, request: Request) -> Response {
    let accept = request.headers().get(header::ACCEPT).cloned();
    match operator.metrics.scrape(accept).await {
        Ok((content_type, body)) => ([(header::CONTENT_TYPE, content_type)], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "a scrape failed");
            answer(Problem::from(Cause::Internal).detail(error.to_string()), Protocol::Http)
        }
    }
}

/// The list, for people with a browser and for people with curl.
async fn index(State(operator): State<Arc<Operator>>, request: Request) -> Response {
    let accept = request.headers().get(header::ACCEPT).map_or(&b""[..], http::HeaderValue::as_bytes);
    let service = &operator.identity.service;
    if !accept.windows(HTML.len()).any(|range| range == HTML) {
        let row = |(path, what): &(&str, &str)| format!("{path:<40} {what}\n");
        let rows: String = PAGES.iter().map(row).collect();
        return ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], rows).into_response();
    }
    // Nothing of it comes from a request; a name comes from the settings.
    let service = service.replace('&', "&amp;").replace('<', "&lt;");
    let row = |(path, what): &(&str, &str)| {
        let link = if path.contains('{') { (*path).to_owned() } else { format!("<a href=\"{path}\">{path}</a>") };
        format!("<tr><td>{link}</td><td>{what}</td></tr>\n")
    };
    let rows: String = PAGES.iter().map(row).collect();
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{service}, for operators</title></head>\n\
         <body>\n<h1>{service}</h1>\n<table>\n{rows}</table>\n</body>\n</html>\n"
    );
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
}

async fn info(State(operator): State<Arc<Operator>>) -> Response {
    Json(&operator.identity).into_response()
}

async fn config(State(operator): State<Arc<Operator>>) -> Response {
    let entries = operator.settings.borrow().entries();
    Json(entries).into_response()
}

async fn route_list(State(operator): State<Arc<Operator>>) -> Response {
    Json(route_rows(&operator.routes)).into_response()
}

/// The routes as the admin page and the `routes` command show them.
pub(crate) fn route_rows<'a>(routes: impl IntoIterator<Item = &'a RouteInfo>) -> Vec<serde_json::Value> {
    let row = |route: &RouteInfo| {
        serde_json::json!({
            "method": route.method.as_str(),
            "path": route.path,
            "handler": route.handler,
            "doc": route.doc.trim(),
            "timeout": route.policy.timeout.map(|timeout| config::Duration(timeout).to_string()),
            "concurrency": route.policy.concurrency,
            "body_limit": route.policy.body_limit,
            "idempotent": route.policy.idempotent || route.method.is_idempotent(),
            "deprecated": route.policy.deprecated.is_some(),
        })
    };
    routes.into_iter().map(row).collect()
}

async fn layer_list(State(operator): State<Arc<Operator>>) -> Response {
    Json(&operator.layers).into_response()
}

async fn log_filter(State(operator): State<Arc<Operator>>) -> Response {
    Json(operator.log.status()).into_response()
}

/// What `PUT /admin/log-filter` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FilterOverride {
    /// Directives as `RUST_LOG` has them.
    filter: String,
    /// How long they are in force; ten minutes when not said.
    #[serde(default)]
    ttl: Option<config::Duration>,
}

async fn set_log_filter(State(operator): State<Arc<Operator>>, peer: PeerName, body: axum::body::Bytes) -> Response {
    let wanted: FilterOverride = match serde_json::from_slice(&body) {
        Ok(wanted) => wanted,
        Err(error) => {
            return bad_request(&format!(
                "{error}; expected for example {{\"filter\": \"info,my_service=debug\", \"ttl\": \"10m\"}}"
            ));
        }
    };
    match operator.log.override_filter(&wanted.filter, wanted.ttl.map(Duration::from)) {
        Ok(status) => {
            peer.record(
                "log.filter_overridden",
                &[("filter", &status.filter), ("ttl_seconds", &status.remaining_seconds)],
            );
            Json(status).into_response()
        }
        Err(error) => bad_request(&error.to_string()),
    }
}

async fn clear_log_filter(State(operator): State<Arc<Operator>>, peer: PeerName) -> Response {
    match operator.log.clear_override() {
        Ok(()) => {
            peer.record("log.filter_released", &[]);
            Json(operator.log.status()).into_response()
        }
        Err(error) => bad_request(&error.to_string()),
    }
}

pub(super) fn bad_request(detail: &str) -> Response {
    answer(Problem::from(Cause::InvalidRequest).detail(detail), Protocol::Http)
}

async fn guard(State(operator): State<Arc<Operator>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().and_then(|peer| peer.0);
    let presented =
        request.headers().get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    let by_token = match (&operator.token, presented) {
        // An empty token opens nothing.
        (Some(token), Some(presented)) if !presented.is_empty() => same(token.expose().as_bytes(), presented),
        _ => false,
    };
    // A Unix socket has no address; the file's own rights say who may connect.
    let local = peer.is_none_or(|peer| peer.ip().is_loopback()) && names_this_machine(&request);
    if by_token || (local && presented.is_none()) {
        return next.run(request).await;
    }
    let detail = match (&operator.token, presented) {
        (_, Some(_)) => "the admin token is not the configured one",
        (Some(_), None) => "expected the header `authorization: Bearer <admin token>`, or a caller on loopback",
        (None, None) => "only callers on loopback are answered, since admin.token is not set",
    };
    let problem = Problem::from(Cause::Unauthenticated).detail(detail);
    let mut response = answer(problem, Protocol::Http);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, http::HeaderValue::from_static("Bearer"));
    response
}

/// Compares without telling by its time where the difference is.
fn same(expected: &[u8], found: &[u8]) -> bool {
    let difference = expected.iter().zip(found).fold(0, |difference, (a, b)| difference | (a ^ b));
    expected.len() == found.len() && difference == 0
}

/// Whether the `host` header is an address or `localhost`, as a page from elsewhere cannot make it.
fn names_this_machine(request: &Request) -> bool {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let Some(host) = host.or_else(|| request.uri().authority().map(|authority| authority.as_str())) else {
        return true;
    };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok()
}

/// Who asks, in the request's extensions.
#[derive(Clone, Copy)]
pub(super) struct Peer(pub(super) Option<SocketAddr>);

/// The operator who asks, as the audit log names it.
pub(super) struct PeerName(String);

impl PeerName {
    pub(super) fn of(extensions: &http::Extensions) -> Self {
        let peer = extensions.get::<Peer>().and_then(|peer| peer.0);
        Self(peer.map_or("a local operator".to_owned(), |peer| peer.to_string()))
    }

    pub(super) fn name(&self) -> &str {
        &self.0
    }

    /// A change of the log's filter, in the audit log.
    fn record(&self, action: &'static str, fields: &[(&'static str, &dyn audit::Fact)]) {
        let outcome = audit::Outcome::Success;
        audit::record(&audit::Event { actor: &self.0, action, object: &"log", outcome, fields });
    }
}

impl<S: Sync> FromRequestParts<S> for PeerName {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.extensions))
    }
}

/// The operators' routes for one connection.
#[derive(Clone)]
pub(crate) struct AdminService {
    router: Router,
    connection: Option<Arc<Connection>>,
}

impl OnConnection for AdminService {
    fn on(mut self, connection: Arc<Connection>) -> Self {
        self.connection = Some(connection);
        self
    }
}

/// Counts a request as in flight on its connection until its answer is ready; operators' answers are never streamed.
struct InFlight(Option<Arc<Connection>>);

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            connection.end_request();
        }
    }
}

impl Service<http::Request<Incoming>> for AdminService {
    type Response = http::Response<AdminBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Incoming>) -> Self::Future {
        if let Some(connection) = &self.connection {
            connection.begin_request();
        }
        let in_flight = InFlight(self.connection.clone());
        request.extensions_mut().insert(Peer(self.connection.as_ref().and_then(|connection| connection.peer())));
        let answer = self.router.call(request.map(Body::new));
        Box::pin(async move {
            let response = answer.await;
            drop(in_flight);
            response.map(|response| response.map(AdminBody))
        })
    }
}

/// axum's body with the boxed error that the server wants.
pub(crate) struct AdminBody(Body);

impl http_body::Body for AdminBody {
    type Data = bytes::Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, axum::BoxError>>> {
        Pin::new(&mut self.0).poll_frame(cx).map(|frame| frame.map(|result| result.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn a_token_of_another_length_is_not_the_token() {
        assert!(same(b"secret", b"secret"));
        for wrong in [&b"secre"[..], b"secrets", b"", b"Secret"] {
            assert!(!same(b"secret", wrong));
        }
    }

    #[test]
    fn only_addresses_and_localhost_name_this_machine() {
        for (host, expected) in [
            ("localhost:8081", true),
            ("127.0.0.1", true),
            ("[::1]:8081", true),
            ("rebound.example:8081", false),
            ("localhost.example", false),
        ] {
            let request = Request::builder().header(header::HOST, host).body(Body::empty());
            assert_eq!(request.map(|request| names_this_machine(&request)).ok(), Some(expected), "{host}");
        }
    }

    #[test]
    fn refusals_stay_refusals() {
        assert_eq!(bad_request("x").status(), StatusCode::BAD_REQUEST);
    }
}
