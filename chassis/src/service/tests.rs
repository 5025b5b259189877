use axum::{body::Body, response::Response, routing};
use http::{Request, StatusCode};
use tower_service::Service as _;

use super::*;
use crate::{
    cause::{Cause, Refusal},
    problem::Problem,
};

/// What a handler written by hand answers to a request with a body that is not JSON.
async fn answer<H, A>(handler: H) -> Response
where
    H: axum::handler::Handler<A, ()>,
    A: 'static,
{
    let mut router: Router = Router::new().route("/orders/{id}", routing::post(handler));
    let request = Request::post("/orders/x").body(Body::from("x")).expect("a request");
    router.call(request).await.expect("a router never fails")
}

#[tokio::test]
async fn a_request_that_does_not_fit_counts_as_turned_away() {
    let path = |arguments: Arguments| async move { arguments.path::<u64>("id").map(|id| json(StatusCode::OK, &id)) };
    let body = |arguments: Arguments| async move { arguments.json::<u64>().await.map(|n| json(StatusCode::OK, &n)) };
    assert_eq!(answer(path).await.extensions().get(), Some(&Refusal(Cause::InvalidRequest)));
    assert_eq!(answer(body).await.extensions().get(), Some(&Refusal(Cause::InvalidRequest)));
}

#[tokio::test]
async fn a_handlers_own_problem_does_not_count_as_turned_away() {
    let handler = |_: Arguments| async { Rejection::from(Problem::invalid("order_invalid")) };
    assert!(answer(handler).await.extensions().get::<Refusal>().is_none());
}

#[tokio::test]
async fn a_route_that_forgot_a_parameter_is_an_internal_problem() {
    let handler = |arguments: Arguments| async move { arguments.path::<u64>("no").map(|id| json(StatusCode::OK, &id)) };
    let response = answer(handler).await;
    assert_eq!(response.status(), 500);
    assert!(response.extensions().get::<Refusal>().is_none());
}
