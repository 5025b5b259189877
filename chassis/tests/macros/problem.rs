//! Errors that `#[derive(Problem)]` makes problems of.

use std::io;

use chassis::problem::{IntoProblem, Problem};
use serde_json::{Value, json};
use tonic::Code;

#[derive(Debug, thiserror::Error, Problem)]
enum ShopError {
    #[error("there is no order {id}{}", .secret.len())]
    #[problem(not_found, code = "order_unknown", type = "https://example.com/order-unknown")]
    Unknown {
        #[problem(public)]
        id: u64,
        secret: &'static str,
    },
    #[error("the store failed")]
    #[problem(unavailable, retry_after = "1500ms", retry_safe)]
    Store(#[from] io::Error),
    #[error("sold out")]
    #[problem(conflict, title = "Nothing left")]
    SoldOut,
    #[error(transparent)]
    #[problem(transparent)]
    Payment(PaymentDeclined),
}

#[derive(Debug, thiserror::Error, Problem)]
#[error("card {0} was declined")]
#[problem(unprocessable)]
struct PaymentDeclined(#[problem(public = "card")] u16);

#[derive(Debug, thiserror::Error, Problem)]
#[error("{0:?} is odd")]
#[problem(invalid)]
struct Odd<T: std::fmt::Debug>(T);

async fn document(error: impl IntoProblem) -> Value {
    let body = error.into_problem().into_http(None).into_body();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.expect("a body in memory");
    serde_json::from_slice(&bytes).expect("a problem is JSON")
}

#[tokio::test]
async fn the_callers_mistake_is_explained_with_its_public_fields() {
    assert_eq!(
        document(ShopError::Unknown { id: 7, secret: "" }).await,
        json!({
            "type": "https://example.com/order-unknown",
            "title": "Not Found",
            "status": 404,
            "detail": "there is no order 70",
            "code": "order_unknown",
            "id": 7,
        })
    );
}

#[tokio::test]
async fn the_services_fault_is_not_shown() {
    assert_eq!(
        document(ShopError::from(io::Error::other("password of db-7 refused"))).await,
        json!({
            "type": "about:blank",
            "title": "Service Unavailable",
            "status": 503,
            "code": "store",
            "retry_after": 2,
            "retry_safe": true,
        })
    );
}

#[test]
fn a_variant_without_a_code_has_its_name() {
    let problem = ShopError::SoldOut.into_problem();
    assert_eq!((problem.code(), problem.grpc_code()), ("sold_out", Code::Aborted));
}

#[tokio::test]
async fn a_transparent_variant_hands_over() {
    let body = document(ShopError::Payment(PaymentDeclined(42))).await;
    assert_eq!((&body["status"], &body["code"]), (&json!(422), &json!("payment_declined")));
    assert_eq!((&body["detail"], &body["card"]), (&json!("card 42 was declined"), &json!(42)));
}

#[test]
fn an_error_with_a_parameter_can_be_a_problem() {
    assert_eq!(Odd(3).into_problem().code(), "odd");
}
