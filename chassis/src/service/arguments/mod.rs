//! Where a handler's arguments come from, and what is answered when they do not fit.

use std::{error::Error, fmt};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request, rejection::RawPathParamsRejection},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header, request::Parts};
use serde::{
    Deserialize, Deserializer,
    de::{IntoDeserializer, Visitor, value},
    forward_to_deserialize_any,
};

use crate::{
    cause::{Cause, Refusal},
    problem::Problem,
};

/// The most that is read of an axum rejection's own text.
const MAX_REJECTION_BYTES: usize = 4096;

/// A request, to take a handler's arguments from. An axum extractor, and the last one of its handler.
#[derive(Debug)]
pub struct Arguments {
    parts: Parts,
    body: Body,
    path: Result<RawPathParams, RawPathParamsRejection>,
}

impl<S: Send + Sync> FromRequest<S> for Arguments {
    type Rejection = std::convert::Infallible;

    async fn from_request(request: Request, _: &S) -> Result<Self, Self::Rejection> {
        let (mut parts, body) = request.into_parts();
        let path = RawPathParams::from_request_parts(&mut parts, &()).await;
        Ok(Self { parts, body, path })
    }
}

impl Arguments {
    /// A parameter of the path, percent-decoded.
    ///
    /// # Errors
    ///
    /// 400 `invalid_request` with the parameter's name, what was found and what was expected.
    pub fn path<T: for<'de> Deserialize<'de>>(&self, name: &'static str) -> Result<T, Rejection> {
        let params = self.path.as_ref().map_err(|error| refused(unreadable_path(error)))?;
        // A template that does not name the parameter is a mistake in a router written by hand.
        let (_, text) = params.iter().find(|(key, _)| *key == name).ok_or_else(|| refused(no_such_parameter(name)))?;
        T::deserialize(Segment(text)).map_err(|error| {
            let detail = format!("path parameter {name:?}: found {text:?}, {error}");
            refused(invalid(StatusCode::BAD_REQUEST).detail(detail))
        })
    }

    /// The query as a whole.
    ///
    /// # Errors
    ///
    /// 400 `invalid_request` with the parameter's name.
    pub fn query<T: for<'de> Deserialize<'de>>(&self) -> Result<T, Rejection> {
        let Query(query) = Query::try_from_uri(&self.parts.uri).map_err(|rejection| {
            let text = rejection.body_text();
            let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            refused(invalid(StatusCode::BAD_REQUEST).detail(format!("the query does not fit: {text}")))
        })?;
        Ok(query)
    }

    /// Anything that implements axum's [`FromRequestParts`].
    ///
    /// # Errors
    ///
    /// The extractor's own rejection; one in plain text, as axum's are, becomes a problem of the same status.
    pub async fn extract<T: FromRequestParts<S>, S: Send + Sync>(&mut self, state: &S) -> Result<T, Rejection> {
        match T::from_request_parts(&mut self.parts, state).await {
            Ok(value) => Ok(value),
            Err(rejection) => Err(Rejection::adopt(rejection.into_response()).await),
        }
    }

    /// The body as JSON. It comes last, as it uses the request up.
    ///
    /// The body is limited as axum's extractors limit it, by `DefaultBodyLimit`, or by a layer in front.
    ///
    /// # Errors
    ///
    /// `payload_too_large` (413), or `invalid_request`: 415 when the content type is not JSON, 400 when the body is not JSON
    /// or did not arrive whole, 422 when it is JSON that does not fit, with the place as a violation.
    pub async fn json<T: for<'de> Deserialize<'de>>(self) -> Result<T, Rejection> {
        if !is_json(&self.parts.headers) {
            return Err(refused(not_json(&self.parts.headers)));
        }
        let body = Bytes::from_request(Request::from_parts(self.parts, self.body), &()).await;
        let body = body.map_err(|rejection| refused(incomplete(rejection.status(), &rejection)))?;
        serde_json::from_slice(&body).map_err(|error| refused(misfit::<T>(&body, &error)))
    }
}

/// The answer to a request whose handler was not called, or failed.
#[derive(Debug)]
pub struct Rejection(Box<Response>);

impl Rejection {
    async fn adopt(response: Response) -> Self {
        let status = response.status();
        let is_text = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"text/plain"));
        if !is_text || !(status.is_client_error() || status.is_server_error()) {
            return Self(Box::new(response));
        }
        let text = axum::body::to_bytes(response.into_body(), MAX_REJECTION_BYTES).await.unwrap_or_default();
        let text = Text(String::from_utf8_lossy(&text).into_owned());
        refused(Problem::new(status, cause_of(status).as_str()).explained_by(&text))
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
fn refused(problem: Problem) -> Rejection {
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
        StatusCode::PAYLOAD_TOO_LARGE => Cause::PayloadTooLarge,
        status if status.is_server_error() => Cause::Internal,
        _ => Cause::InvalidRequest,
    }
}

/// An error that is only a text.
#[derive(Debug)]
struct Text(String);

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Text {}

fn invalid(status: StatusCode) -> Problem {
    Problem::new(status, Cause::InvalidRequest.as_str()).title(Cause::InvalidRequest.title())
}

fn unreadable_path(rejection: &RawPathParamsRejection) -> Problem {
    match rejection {
        RawPathParamsRejection::InvalidUtf8InPathParam(error) => {
            invalid(StatusCode::BAD_REQUEST).detail(format!("the path cannot be read: {error}"))
        }
        rejection => Problem::from(Cause::Internal).explained_by(rejection),
    }
}

fn no_such_parameter(name: &str) -> Problem {
    Problem::from(Cause::Internal).explained_by(&Text(format!("the route's path has no parameter {name:?}")))
}

/// RFC 9110 §8.3.1: the media type is compared without regard to case, and parameters do not matter here.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(content_type)) = headers.get(header::CONTENT_TYPE).map(|value| value.to_str()) else {
        return false;
    };
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let Some((kind, subtype)) = essence.split_once('/') else {
        return false;
    };
    kind.eq_ignore_ascii_case("application")
        && (subtype.eq_ignore_ascii_case("json")
            || subtype.rsplit_once('+').is_some_and(|(_, suffix)| suffix.eq_ignore_ascii_case("json")))
}

fn not_json(headers: &HeaderMap) -> Problem {
    let found = match headers.get(header::CONTENT_TYPE) {
        Some(found) => format!("found content-type {found:?}"),
        None => "found no content-type".to_owned(),
    };
    invalid(StatusCode::UNSUPPORTED_MEDIA_TYPE).detail(format!("{found}, expected application/json"))
}

fn incomplete(status: StatusCode, error: &(dyn Error + 'static)) -> Problem {
    let mut source = Some(error);
    let mut too_large = status == StatusCode::PAYLOAD_TOO_LARGE;
    while let Some(error) = source {
        too_large |= error.is::<http_body_util::LengthLimitError>();
        source = error.source();
    }
    if too_large {
        Cause::PayloadTooLarge.into()
    } else {
        invalid(StatusCode::BAD_REQUEST).detail("the body did not arrive whole")
    }
}

#[cold]
fn misfit<T: for<'de> Deserialize<'de>>(body: &[u8], error: &serde_json::Error) -> Problem {
    if body.is_empty() {
        return invalid(StatusCode::BAD_REQUEST).detail("the body is empty, expected JSON");
    }
    if !error.is_data() {
        return invalid(StatusCode::BAD_REQUEST).detail(format!("the body is not JSON: {error}"));
    }
    let text = error.to_string();
    let message = text.rsplit_once(" at line ").map_or(&*text, |(message, _)| message);
    invalid(StatusCode::UNPROCESSABLE_ENTITY)
        .detail(format!("the body does not fit: {text}"))
        .violation(pointer::<T>(body, &text, message), message)
}

/// The JSON pointer to the place of an error, found by reading the body once more the way axum does, which keeps track of
/// the path. Only a request that is refused pays for it.
fn pointer<T: for<'de> Deserialize<'de>>(body: &[u8], text: &str, message: &str) -> String {
    let tracked = Json::<T>::from_bytes(body).err().map(|rejection| rejection.body_text()).unwrap_or_default();
    let path = tracked
        .strip_suffix(text)
        .and_then(|rest| rest.strip_suffix(": "))
        .and_then(|rest| rest.rsplit_once(": "))
        .map_or("", |(_, path)| path);
    let mut pointer = String::new();
    for step in path.split(['.', '[']).filter(|step| !step.is_empty()) {
        push_step(&mut pointer, step.strip_suffix(']').unwrap_or(step));
    }
    // serde reports these at the object, an unknown field at the field.
    let (what, rest) = message.split_once(" field `").unwrap_or_default();
    if let ("missing" | "duplicate", Some((field, _))) = (what, rest.split_once('`')) {
        push_step(&mut pointer, field);
    }
    pointer
}

fn push_step(pointer: &mut String, step: &str) {
    pointer.push('/');
    pointer.push_str(&step.replace('~', "~0").replace('/', "~1"));
}

/// One segment of a path, read as whatever type is asked for.
struct Segment<'a>(&'a str);

type SegmentError = value::Error;

fn expected(what: impl fmt::Display) -> SegmentError {
    serde::de::Error::custom(format_args!("expected {what}"))
}

macro_rules! parsed {
    ($($method:ident $visit:ident $type:ty, $what:expr;)+) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SegmentError> {
                match self.0.parse::<$type>() {
                    Ok(value) => visitor.$visit(value),
                    Err(_) => Err(expected($what)),
                }
            }
        )+
    };
}

macro_rules! whole {
    ($type:ident) => {
        format_args!("a whole number from {} to {}", $type::MIN, $type::MAX)
    };
}

impl<'de> Deserializer<'de> for Segment<'de> {
    type Error = SegmentError;

    parsed! {
        deserialize_bool visit_bool bool, "true or false";
        deserialize_i8 visit_i8 i8, whole!(i8);
        deserialize_i16 visit_i16 i16, whole!(i16);
        deserialize_i32 visit_i32 i32, whole!(i32);
        deserialize_i64 visit_i64 i64, whole!(i64);
        deserialize_i128 visit_i128 i128, whole!(i128);
        deserialize_u8 visit_u8 u8, whole!(u8);
        deserialize_u16 visit_u16 u16, whole!(u16);
        deserialize_u32 visit_u32 u32, whole!(u32);
        deserialize_u64 visit_u64 u64, whole!(u64);
        deserialize_u128 visit_u128 u128, whole!(u128);
        deserialize_f32 visit_f32 f32, "a number";
        deserialize_f64 visit_f64 f64, "a number";
        deserialize_char visit_char char, "one character";
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SegmentError> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SegmentError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, SegmentError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SegmentError> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    forward_to_deserialize_any! {
        str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}
