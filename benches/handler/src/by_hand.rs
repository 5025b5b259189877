//! The same service as a person writes it on axum.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{StatusCode, header};
use serde::Serialize;

use crate::domain::{Filter, NewOrder, Order, Store};

enum OrderError {
    Unknown(u32),
}

/// RFC 9457.
#[derive(Serialize)]
struct ProblemDetails {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    code: &'static str,
}

impl IntoResponse for OrderError {
    fn into_response(self) -> Response {
        let (status, code, detail) = match self {
            Self::Unknown(id) => (StatusCode::NOT_FOUND, "unknown_order", format!("there is no order {id}")),
        };
        let body = ProblemDetails {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail,
            code,
        };
        (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(body)).into_response()
    }
}

struct Orders {
    store: Store,
}

async fn order(State(orders): State<Arc<Orders>>, Path(id): Path<u32>) -> Result<Json<Order>, OrderError> {
    orders.store.order(id).map(Json).ok_or(OrderError::Unknown(id))
}

async fn find(State(orders): State<Arc<Orders>>, Query(filter): Query<Filter>) -> Json<Order> {
    Json(orders.store.find(filter))
}

async fn place(
    State(orders): State<Arc<Orders>>,
    Json(order): Json<NewOrder>,
) -> Result<impl IntoResponse, OrderError> {
    let order = orders.store.place(order);
    let location = format!("/orders/{}", order.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(order)))
}

pub(crate) fn router() -> Router {
    Router::new()
        .route("/orders/{id}", get(order))
        .route("/orders", get(find).post(place))
        .with_state(Arc::new(Orders { store: Store }))
}
