//! A parameter of the path.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use axum::extract::{FromRequestParts, RawPathParams, rejection::RawPathParamsRejection};
use http::{StatusCode, request::Parts};
use serde::Deserialize;

use super::{
    rejection::{Plain, Rejection, invalid, refused},
    text::{Misfit, Nothing, Text, is_plain_scalar},
};
use crate::{
    cause::Cause,
    problem::{Problem, clipped},
};

/// One parameter, by its name in the template. axum has decoded it.
pub(super) fn read<T: for<'de> Deserialize<'de>>(parts: &mut Parts, name: &'static str) -> Result<T, Rejection> {
    // axum shows the parameters to an extractor alone; this one is ready at once.
    let extracted = pin!(RawPathParams::from_request_parts(parts, &()));
    let parameters = match extracted.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(parameters)) => parameters,
        Poll::Ready(Err(rejection)) => return Err(refused(unreadable(name, &rejection))),
        Poll::Pending => return Err(refused(no_such_parameter(name))),
    };
    match parameters.iter().find(|(key, _)| *key == name) {
        Some((_, "")) => T::deserialize(Nothing).map_err(|_| refused(told(name, "is empty"))),
        Some((_, text)) => one(text).map_err(|misfit| refused(misfitting(name, text, &misfit))),
        // A template that does not name the parameter is a mistake in a router written by hand.
        None => Err(refused(no_such_parameter(name))),
    }
}

/// A type that asks for none, such as an untagged enum, takes what looks like a number or a boolean as that, or else as a text.
fn one<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, Misfit> {
    let as_text = || T::deserialize(Text::<false>(text));
    let typed = || T::deserialize(Text::<true>(text));
    match is_plain_scalar(text) {
        true => typed().or_else(|_| as_text()),
        false => as_text().or_else(|misfit| typed().map_err(|_| misfit)),
    }
}

#[cold]
fn misfitting(name: &str, text: &str, misfit: &Misfit) -> Problem {
    told(name, &format!("found {text:?}, {misfit}"))
}

#[cold]
fn told(name: &str, message: &str) -> Problem {
    let message = clipped(message);
    invalid(StatusCode::BAD_REQUEST)
        .detail(format!("path parameter {name:?}: {message}"))
        .parameter_violation(name, message)
}

#[cold]
fn unreadable(name: &str, rejection: &RawPathParamsRejection) -> Problem {
    match rejection {
        RawPathParamsRejection::InvalidUtf8InPathParam(error) => {
            // It may be another parameter than the one asked for; only the text says which.
            let text = error.to_string();
            told(text.split('`').nth(1).unwrap_or(name), "expected UTF-8 behind the percent signs")
        }
        // The route has no parameter at all.
        _ => no_such_parameter(name),
    }
}

#[cold]
fn no_such_parameter(name: &str) -> Problem {
    Problem::from(Cause::Internal).explained_by(&Plain(format!("the route's path has no parameter {name:?}")))
}
