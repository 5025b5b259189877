//! What is answered when the arguments do not fit.

use std::{error::Error, fmt};

use axum::response::{IntoResponse, Response};
use http::{HeaderName, StatusCode, header};

use crate::{
    cause::{Cause, Refusal},
    problem::Problem,
};

/// The most that is read of an axum rejection's own text.
const MAX_REJECTION_BYTES: usize = 4096;
/// What the headers say of the text that the problem takes the place of.
const OF_THE_TEXT: [HeaderName; 4] =
    [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::TRANSFER_ENCODING];

/// The answer to a request whose handler was not called, or failed.
#[derive(Debug)]
pub struct Rejection(Box<Response>);

impl Rejection {
    pub(super) async fn adopt(response: Response) -> Self {
        let status = response.status();
        let is_text = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"text/plain"));
        if !is_text || !(status.is_client_error() || status.is_server_error()) {
            return Self(Box::new(response));
        }
        let (parts, body) = response.into_parts();
        let text = axum::body::to_bytes(body, MAX_REJECTION_BYTES).await.unwrap_or_default();
        let text = Plain(String::from_utf8_lossy(&text).into_owned());
        let mut problem = Problem::new(status, cause_of(status).as_str());
        if !text.0.is_empty() {
            problem = problem.explained_by(&text);
        }
        // A challenge (RFC 9110 §11.6.1), Retry-After, Allow: they belong to the status.
        for (name, value) in &parts.headers {
            if !OF_THE_TEXT.contains(name) {
                problem = problem.header(name.clone(), value.clone());
            }
        }
        refused(problem)
    }
}

impl From<Problem> for Rejection {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem.into_response()))
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        *self.0
    }
}

/// The chassis itself turns the request away: that is counted, unlike a problem that a handler tells.
#[cold]
pub(in crate::service) fn refused(problem: Problem) -> Rejection {
    let cause = cause_of(problem.status());
    let mut rejection = Rejection::from(problem);
    if cause != Cause::Internal {
        rejection.0.extensions_mut().insert(Refusal(cause));
    }
    rejection
}

fn cause_of(status: StatusCode) -> Cause {
    match status {
        StatusCode::UNAUTHORIZED => Cause::Unauthenticated,
        StatusCode::FORBIDDEN => Cause::PermissionDenied,
        StatusCode::NOT_FOUND => Cause::NotFound,
        StatusCode::TOO_MANY_REQUESTS => Cause::RateLimited,
        StatusCode::PAYLOAD_TOO_LARGE => Cause::PayloadTooLarge,
        status if status.is_server_error() => Cause::Internal,
        _ => Cause::InvalidRequest,
    }
}

/// An error that is only a text.
#[derive(Debug)]
pub(super) struct Plain(pub(super) String);

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Plain {}

pub(in crate::service) fn invalid(status: StatusCode) -> Problem {
    Problem::new(status, Cause::InvalidRequest.as_str()).title(Cause::InvalidRequest.title())
}
