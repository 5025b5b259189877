//! The handlers of `#[service]` against those that a person writes: `cargo xtask bench --handler` counts the
//! instructions of both.
//!
//! `handler macro path 1000` answers a thousand requests, without a socket and without a layer.

mod by_hand;
mod by_macro;
mod domain;

use std::{
    pin::pin,
    process::ExitCode,
    task::{Context, Poll, Waker},
};

use axum::{Router, body::Body, response::Response};
use http::{Method, Request, header};
use tower_service::Service as _;

/// What is asked: its name, the method, the target and the body.
const CASES: [(&str, Method, &str, &str); 4] = [
    ("path", Method::GET, "/orders/7", ""),
    ("query", Method::GET, "/orders?customer=customer-7&limit=20", ""),
    (
        "body",
        Method::POST,
        "/orders",
        r#"{"customer":"customer-7","items":[{"sku":"a-71","count":1,"cents":17},{"sku":"a-72","count":2,"cents":27}]}"#,
    ),
    ("error", Method::GET, "/orders/1000001", ""),
];

fn request((_, method, target, body): &(&str, Method, &'static str, &'static str)) -> Option<Request<Body>> {
    let builder = Request::builder().method(method).uri(*target);
    if body.is_empty() {
        return builder.body(Body::empty()).ok();
    }
    builder.header(header::CONTENT_TYPE, "application/json").body(Body::from(*body)).ok()
}

/// Nothing here waits, so one look is enough.
fn answer(router: &mut Router, request: Request<Body>) -> Option<Response> {
    let answer = pin!(router.call(request));
    match answer.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(response)) => Some(response),
        Poll::Pending => None,
    }
}

fn run(arguments: &[String]) -> Option<()> {
    let [side, name, count] = arguments else { return None };
    let mut router = match side.as_str() {
        "macro" => by_macro::router(),
        "hand" => by_hand::router(),
        _ => return None,
    };
    let case = CASES.iter().find(|(case, ..)| case == name)?;
    for _ in 0..count.parse::<u32>().ok()? {
        answer(&mut router, request(case)?)?;
    }
    Some(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if run(&arguments).is_some() { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn told(router: &mut Router, case: &(&str, Method, &'static str, &'static str)) -> (u16, Vec<String>, String) {
        let response = answer(router, request(case).expect("a request")).expect("an answer");
        let (parts, body) = response.into_parts();
        let mut headers: Vec<_> = parts.headers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
        headers.sort();
        let body = pin!(body.collect());
        let Poll::Ready(Ok(body)) = body.poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("a body in memory");
        };
        (parts.status.as_u16(), headers, String::from_utf8(body.to_bytes().to_vec()).expect("text"))
    }

    #[test]
    fn both_sides_answer_the_same_bytes() {
        for (case, status) in CASES.iter().zip([200, 200, 201, 404]) {
            let by_hand = told(&mut by_hand::router(), case);
            assert_eq!(by_hand.0, status, "{by_hand:?}");
            assert_eq!(told(&mut by_macro::router(), case), by_hand);
        }
    }
}
