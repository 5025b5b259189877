//! The shop over HTTP, as axum has it.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderValue, StatusCode, header},
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::{Article, Count, Shop, ShopError, Stock};

type TheShop<S> = State<Arc<Shop<S>>>;

/// Everything the service answers.
pub fn routes<S: Stock>(shop: Arc<Shop<S>>) -> Router {
    let api = Router::new()
        .route("/articles/{sku}", get(article))
        .route("/articles", post(add))
        .route("/articles/{sku}/stock", get(count))
        .with_state(shop.clone());
    api.merge(operators(shop)).layer(map_response(guarded))
}

/// What every answer of this service has always had, those to paths that nobody knows too.
pub async fn guarded(mut answer: Response) -> Response {
    answer.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// What this service has always had for those who run it: their probes and dashboards know these paths.
pub fn operators<S: Stock>(shop: Arc<Shop<S>>) -> Router {
    Router::new().route("/healthz", get(healthz)).route("/metrics", get(metrics)).with_state(shop)
}

async fn article<S: Stock>(State(shop): TheShop<S>, Path(sku): Path<String>) -> Result<Json<Article>, ShopError> {
    shop.find(sku).map(Json)
}

async fn add<S: Stock>(State(shop): TheShop<S>, Json(article): Json<Article>) -> Result<Response, ShopError> {
    let article = shop.add(article)?;
    Ok((StatusCode::CREATED, Json(article)).into_response())
}

async fn count<S: Stock>(State(shop): TheShop<S>, Path(sku): Path<String>) -> Result<Json<Count>, ShopError> {
    shop.count(sku).await.map(Json)
}

async fn healthz<S: Stock>(State(shop): TheShop<S>) -> Response {
    match shop.ping().await {
        Ok(()) => "ok".into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

async fn metrics<S: Stock>(State(shop): TheShop<S>) -> String {
    format!("shop_articles_added_total {}\n", shop.added())
}

impl IntoResponse for ShopError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Unknown(_) => StatusCode::NOT_FOUND,
            Self::Incomplete => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Stock(..) => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, Json(json!({ "error": self.to_string() }))).into_response()
    }
}

/// Ready at the first SIGTERM or Ctrl-C.
pub async fn stop_signal() {
    let heard = |kind| async move {
        match signal(kind) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = heard(SignalKind::terminate()) => {}
        _ = heard(SignalKind::interrupt()) => {}
    }
}
