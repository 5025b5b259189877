//! What a handler may return, and how it is answered.

use std::fmt;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use super::info::{AnswerKind, Content};
use crate::{cause::Cause, problem::Problem};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Room for a small answer at once; a larger one grows by doubling.
const INITIAL_BODY_BYTES: usize = 256;

/// A value that knows how it is answered. For a type of your own that is neither JSON nor an axum response.
///
/// A handler's type is looked up here first, then as [`Serialize`], then as axum's [`IntoResponse`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how it is answered",
    label = "expected a `Reply`",
    note = "write `impl chassis::service::Reply for {Self}`; JSON needs none of it: `#[derive(serde::Serialize)]`"
)]
pub trait Reply {
    /// What is in the body, for the OpenAPI document; `()` when nothing can be said.
    type Body;

    /// The answer.
    fn reply(self) -> Response;

    /// The status and content, for the OpenAPI document. Default: nothing can be said.
    #[must_use]
    fn kind() -> AnswerKind {
        AnswerKind::default()
    }
}

/// A JSON answer. A value that cannot be written as JSON is an `internal` problem, and logged.
pub fn json<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Response {
    let mut body = Vec::with_capacity(INITIAL_BODY_BYTES);
    match serde_json::to_writer(&mut body, value) {
        Ok(()) => respond(status, body),
        Err(error) => Problem::from(Cause::Internal).explained_by(&error).into_response(),
    }
}

/// Apart from [`json`], so that it is compiled once and not for every type.
fn respond(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

/// 201 with the new thing as JSON, and with `Location` when it was said where the thing is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created<T> {
    /// The new thing.
    pub value: T,
    /// Its address: a path or a URI.
    pub location: Option<String>,
}

impl<T> Created<T> {
    /// The new thing, without an address.
    pub fn new(value: T) -> Self {
        Self { value, location: None }
    }

    /// The new thing's address: a path such as `/orders/7`, or a URI.
    #[must_use]
    pub fn at(mut self, location: impl fmt::Display) -> Self {
        self.location = Some(location.to_string());
        self
    }
}

impl<T: Serialize> Reply for Created<T> {
    type Body = T;

    fn kind() -> AnswerKind {
        AnswerKind::new(StatusCode::CREATED, Content::Json)
    }

    fn reply(self) -> Response {
        let mut response = json(StatusCode::CREATED, &self.value);
        if response.status() != StatusCode::CREATED {
            return response;
        }
        match self.location.map(HeaderValue::try_from) {
            Some(Ok(location)) => {
                response.headers_mut().insert(header::LOCATION, location);
            }
            // The thing exists: that must be said, even if its address cannot.
            Some(Err(error)) => tracing::error!(%error, "a location cannot be sent as a header"),
            None => {}
        }
        response
    }
}

/// 202 with a JSON value: the work was taken on and is not done yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted<T>(pub T);

impl<T: Serialize> Reply for Accepted<T> {
    type Body = T;

    fn kind() -> AnswerKind {
        AnswerKind::new(StatusCode::ACCEPTED, Content::Json)
    }

    fn reply(self) -> Response {
        json(StatusCode::ACCEPTED, &self.0)
    }
}

/// 204: done, and there is nothing to say. A handler that returns `()` is answered the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NoContent;

impl Reply for NoContent {
    type Body = ();

    fn kind() -> AnswerKind {
        AnswerKind::new(StatusCode::NO_CONTENT, Content::Empty)
    }

    fn reply(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

impl Reply for () {
    type Body = ();

    fn kind() -> AnswerKind {
        NoContent::kind()
    }

    fn reply(self) -> Response {
        NoContent.reply()
    }
}

/// An answer that axum makes, for a type that would be JSON otherwise: `Raw(String)` is plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raw<T>(pub T);

impl<T: IntoResponse> Reply for Raw<T> {
    type Body = ();

    fn reply(self) -> Response {
        self.0.into_response()
    }
}
