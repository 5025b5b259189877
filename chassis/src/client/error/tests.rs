use super::*;

fn error(method: Method, what: What) -> CallError {
    let uri = "http://orders/orders/7".to_owned();
    CallError::new(&Arc::new(Target { method, uri, idempotent: false }), what)
}

fn status(found: StatusCode) -> What {
    What::Status { found, expected: "a success", retry_after: Some(Duration::from_secs(3)) }
}

#[tokio::test]
async fn the_caller_of_this_service_sees_that_a_dependency_failed_and_nothing_of_the_inside() {
    let io = || Box::new(std::io::Error::other("secret of db-7"));
    for (what, status, code) in [
        (What::InvalidArgument("secret of db-7".to_owned()), 500, "internal"),
        (What::NotSent(Cause::NoEndpoints, Some(io())), 503, "no_endpoints"),
        (What::NotSent(Cause::CircuitOpen, None), 503, "circuit_open"),
        (What::DeadlineExceeded { sent: true, why: None }, 504, "deadline_exceeded"),
        (What::BrokenOff { status: None, source: io() }, 502, "dependency_failed"),
        (status(StatusCode::NOT_FOUND), 502, "dependency_failed"),
        (status(StatusCode::UNAUTHORIZED), 502, "dependency_failed"),
        (status(StatusCode::INTERNAL_SERVER_ERROR), 502, "dependency_failed"),
        (status(StatusCode::TOO_MANY_REQUESTS), 503, "dependency_failed"),
        (status(StatusCode::SERVICE_UNAVAILABLE), 503, "dependency_failed"),
        (status(StatusCode::GATEWAY_TIMEOUT), 504, "dependency_failed"),
        (What::Undecodable { status: StatusCode::OK, message: "secret".to_owned() }, 502, "dependency_failed"),
        (What::TooLarge { status: StatusCode::OK, limit: 1 }, 502, "dependency_failed"),
    ] {
        let error = error(Method::GET, what);
        let text = error.to_string();
        let waits = error.retry_after().is_some() && status == 503;
        let problem = error.into_problem();
        assert_eq!((problem.status().as_u16(), problem.code()), (status, code), "{text}");
        let response = problem.into_http(None);
        assert_eq!(response.headers().contains_key(http::header::RETRY_AFTER), waits, "{text}");
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        assert!(!String::from_utf8_lossy(&body).contains("secret"), "{body:?}");
    }
}

#[test]
fn a_retry_is_safe_when_nothing_was_sent_or_the_method_allows_it() {
    let broken = || What::BrokenOff { status: None, source: "x".into() };
    assert!(!error(Method::POST, broken()).retry_safe());
    assert!(error(Method::PUT, broken()).retry_safe());
    assert!(error(Method::POST, What::NotSent(Cause::CircuitOpen, None)).retry_safe());
    assert!(error(Method::POST, What::DeadlineExceeded { sent: false, why: None }).never_sent());
    assert!(!error(Method::POST, What::DeadlineExceeded { sent: true, why: None }).retry_safe());
    let target = Target { method: Method::POST, uri: String::new(), idempotent: true };
    assert!(CallError::new(&Arc::new(target), broken()).retry_safe());
}

#[test]
fn what_cannot_be_decoded_is_not_told_without_end() {
    let message = format!("found {}", "x".repeat(1 << 20));
    let text = error(Method::GET, What::Undecodable { status: StatusCode::OK, message }).to_string();
    assert!(text.len() < 1200 && text.starts_with("GET http://orders/orders/7: 200, and found xx"), "{text:.99}");
}

#[test]
fn a_wait_of_nothing_is_not_told() {
    assert_eq!(NotSent::new(Cause::CircuitOpen).retry_after(Duration::ZERO).wait(), None);
}

#[test]
fn a_layer_that_holds_a_call_back_says_why() {
    #[derive(Debug)]
    struct Wrapped(NotSent);
    impl fmt::Display for Wrapped {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("wrapped")
        }
    }
    impl Error for Wrapped {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }
    let target = Arc::new(Target { method: Method::POST, uri: "http://x/y".to_owned(), idempotent: false });
    let wait = Duration::from_secs(3);
    let not_sent = NotSent::new(Cause::CircuitOpen).retry_after(wait).detail("none of 3 endpoints is available");
    let error = CallError::of_transport(&target, Box::new(Wrapped(not_sent)));
    assert_eq!(error.retry_after(), Some(wait), "through the wrapper");
    assert_eq!((error.kind(), error.never_sent()), (CallErrorKind::NotSent, true));
    assert_eq!(error.to_string(), "POST http://x/y: not sent: circuit_open: none of 3 endpoints is available");
    assert_eq!(error.into_problem().code(), "circuit_open");
}

#[test]
fn the_text_names_the_reason_on_one_line() {
    let io = || Box::new(std::io::Error::other("refused\nby the peer")) as BoxError;
    for (what, reason) in [
        (What::NotSent(Cause::NoEndpoints, Some(io())), "not sent: no connection: refused by the peer"),
        (
            What::NotSent(
                Cause::NoEndpoints,
                Some(NotSent::new(Cause::NoEndpoints).detail("the registry is away").into()),
            ),
            "not sent: no_endpoints: the registry is away",
        ),
        (What::NotSent(Cause::BulkheadFull, None), "not sent: bulkhead_full"),
        (What::Untouched(io()), "the other end closed before it looked at the request: refused by the peer"),
        (
            What::DeadlineExceeded { sent: false, why: Some("3 calls wait".to_owned()) },
            "not sent: the time was up: 3 calls wait",
        ),
        (
            What::BrokenOff { status: None, source: io() },
            "the connection failed before an answer came: refused by the peer",
        ),
        (
            What::BrokenOff { status: Some(StatusCode::OK), source: io() },
            "200, and the connection failed within the answer: refused by the peer",
        ),
        (What::Undecodable { status: StatusCode::OK, message: "two\r\nlines".to_owned() }, "200, and two  lines"),
    ] {
        assert_eq!(error(Method::GET, what).to_string(), format!("GET http://orders/orders/7: {reason}"));
    }
}

#[test]
fn a_wait_for_a_place_is_named_when_the_time_was_up() {
    let target = Arc::new(Target { method: Method::GET, uri: "http://x/y".to_owned(), idempotent: true });
    let late = NotSent::new(Cause::DeadlineExceeded).detail("the call waited for one of 8 places");
    let error = CallError::of_transport(&target, late.into());
    assert_eq!(error.to_string(), "GET http://x/y: not sent: the time was up: the call waited for one of 8 places");
}
