//! The body as JSON.
//!
//! The first reading is that of `serde_json`, which keeps track of nothing. Only a request that is refused is read again, for
//! the places of its mistakes.
//!
//! Names given twice: a struct refuses them, a map and a `serde_json::Value` take the last, as most readers do (RFC 8259
//! §4 leaves it open). To refuse them there as well would cost every request more than the reading itself.

use std::error::Error;

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, Request},
};
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use super::{
    by_name, mistakes,
    rejection::{Rejection, invalid, refused},
    text::Nothing,
    whole,
};
use crate::{
    cause::Cause,
    media,
    problem::{Problem, clipped},
};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The whole body.
pub(super) async fn read<T: for<'de> Deserialize<'de>>(parts: Parts, body: Body) -> Result<T, Rejection> {
    let is_typed = acceptable(&parts.headers).map_err(refused)?;
    let body = Bytes::from_request(Request::from_parts(parts, body), &()).await;
    let body = body.map_err(|rejection| refused(incomplete(rejection.status(), &rejection)))?;
    parse(&body, is_typed)
}

fn parse<T: for<'de> Deserialize<'de>>(body: &[u8], is_typed: bool) -> Result<T, Rejection> {
    if body.is_empty() {
        return T::deserialize(Nothing).map_err(|_| refused(not_json("the body is empty, expected JSON")));
    }
    if !is_typed {
        return Err(refused(wrong_type("no content-type")));
    }
    // Whole, so that a text which nobody reads is checked too, and the texts that are read need no check of their own.
    let text = match std::str::from_utf8(body) {
        Ok(text) => text,
        Err(error) => return Err(refused(not_json(format!("the body is not JSON: {error}")))),
    };
    by_name::read(text).or_else(|error| whole::read(text, &error).ok_or_else(|| refused(misfit::<T>(text, &error))))
}

/// Whether the headers describe a body that can be read: true when they say that it is JSON, false when they do not say.
fn acceptable(headers: &HeaderMap) -> Result<bool, Problem> {
    let is_typed = match headers.get(header::CONTENT_TYPE) {
        Some(value) if value == JSON => true,
        Some(value) => {
            if !media::is_json(value.as_bytes()) {
                return Err(wrong_type(&format!("content-type {value:?}")));
            }
            true
        }
        None => false,
    };
    // RFC 9110 §8.4: codings that were applied; "identity" is not one, but is seen.
    for value in headers.get_all(header::CONTENT_ENCODING) {
        if !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity") {
            let detail = format!("found content-encoding {}, expected none", clipped(&format!("{value:?}")));
            return Err(invalid(StatusCode::UNSUPPORTED_MEDIA_TYPE)
                .detail(detail)
                .header(header::ACCEPT_ENCODING, IDENTITY));
        }
    }
    Ok(is_typed)
}

#[cold]
fn wrong_type(found: &str) -> Problem {
    invalid(StatusCode::UNSUPPORTED_MEDIA_TYPE)
        .detail(format!("found {}, expected application/json", clipped(found)))
        // RFC 9110 §15.5.16.
        .header(header::ACCEPT, JSON)
}

fn incomplete(status: StatusCode, error: &(dyn Error + 'static)) -> Problem {
    let mut source = Some(error);
    let mut too_large = status == StatusCode::PAYLOAD_TOO_LARGE;
    while let Some(error) = source {
        too_large |= error.is::<http_body_util::LengthLimitError>();
        source = error.source();
    }
    if too_large { Cause::PayloadTooLarge.into() } else { not_json("the body did not arrive whole") }
}

#[cold]
fn not_json(detail: impl Into<String>) -> Problem {
    invalid(StatusCode::BAD_REQUEST).detail(detail)
}

#[cold]
fn misfit<T: for<'de> Deserialize<'de>>(text: &str, error: &serde_json::Error) -> Problem {
    if text.starts_with(BYTE_ORDER_MARK) {
        return not_json("the body begins with a byte order mark, expected JSON without one");
    }
    let told = error.to_string();
    // serde_json also calls it wrong syntax when an enum is no text and no object, when a name is no number where one is
    // wanted, or when a number is larger than any type.
    let is_misfit = error.is_data()
        || serde_json::from_str::<Value>(text).is_ok()
        || (told.starts_with("number out of range") && serde_json::from_str::<IgnoredAny>(text).is_ok());
    if !is_misfit {
        return not_json(format!("the body is not JSON: {told}"));
    }
    let mut problem =
        invalid(StatusCode::UNPROCESSABLE_ENTITY).detail(format!("the body does not fit: {}", clipped(&told)));
    for (pointer, message) in mistakes::of::<T>(text, error) {
        problem = problem.violation(clipped(&pointer), clipped(&message));
    }
    problem
}
