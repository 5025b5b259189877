//! A parameter of the path.

use std::{
    cell::Cell,
    fmt,
    marker::PhantomData,
    pin::pin,
    task::{Context, Poll, Waker},
};

use axum::extract::{FromRequestParts, Path, path::ErrorKind, rejection::PathRejection};
use http::{StatusCode, request::Parts};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

use super::{
    rejection::{Rejection, Text as Explanation, clipped, invalid, refused},
    text::{Misfit, Text},
};
use crate::{cause::Cause, problem::Problem};

thread_local! {
    /// The parameter that is being read. `Deserialize` has no way to be told, and axum shows the parameters to nothing
    /// else without copying them. It is set and read within one call that does not wait.
    static WANTED: Cell<&'static str> = const { Cell::new("") };
}

/// One parameter, by its name in the template.
pub(super) fn read<T>(parts: &mut Parts, name: &'static str) -> Result<T, Rejection>
where
    T: for<'de> Deserialize<'de> + Send,
{
    WANTED.set(name);
    let extracted = pin!(Path::<Wanted<T>>::from_request_parts(parts, &()));
    match extracted.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(Path(Wanted(Some(Ok(value)))))) => Ok(value),
        Poll::Ready(Ok(Path(Wanted(Some(Err(misfit)))))) => Err(refused(told(name, &misfit))),
        Poll::Ready(Err(rejection)) => Err(refused(unreadable(name, rejection))),
        // A template that does not name the parameter is a mistake in a router written by hand.
        Poll::Ready(Ok(Path(Wanted(None)))) | Poll::Pending => Err(refused(no_such_parameter(name))),
    }
}

/// What became of the wanted parameter; nothing when the path has none of its name.
struct Wanted<T>(Option<Result<T, Misfit>>);

impl<'de, T: for<'any> Deserialize<'any>> Deserialize<'de> for Wanted<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Find(PhantomData))
    }
}

struct Find<T>(PhantomData<T>);

impl<'de, T: for<'any> Deserialize<'any>> Visitor<'de> for Find<T> {
    type Value = Wanted<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the parameters of a path")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut parameters: A) -> Result<Wanted<T>, A::Error> {
        while let Some(IsWanted(wanted)) = parameters.next_key()? {
            if wanted {
                let Read(value) = parameters.next_value()?;
                return Ok(Wanted(Some(value)));
            }
            parameters.next_value::<IgnoredAny>()?;
        }
        Ok(Wanted(None))
    }
}

struct IsWanted(bool);

impl<'de> Deserialize<'de> for IsWanted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = IsWanted;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a parameter")
            }

            fn visit_str<E>(self, name: &str) -> Result<IsWanted, E> {
                Ok(IsWanted(name == WANTED.get()))
            }
        }
        deserializer.deserialize_identifier(Name)
    }
}

/// The parameter is read by our own rules, which say what was expected.
struct Read<T>(Result<T, Misfit>);

impl<'de, T: for<'any> Deserialize<'any>> Deserialize<'de> for Read<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value<T>(PhantomData<T>);
        impl<T: for<'any> Deserialize<'any>> Visitor<'_> for Value<T> {
            type Value = Read<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a parameter of a path")
            }

            fn visit_str<E>(self, text: &str) -> Result<Read<T>, E> {
                Ok(Read(T::deserialize(Text(text)).map_err(|mut misfit| {
                    misfit.message = format!("found {text:?}, {misfit}");
                    misfit
                })))
            }
        }
        deserializer.deserialize_str(Value(PhantomData))
    }
}

fn told(name: &str, misfit: &Misfit) -> Problem {
    let message = clipped(&misfit.message);
    invalid(StatusCode::BAD_REQUEST)
        .detail(format!("path parameter {name:?}: {message}"))
        .parameter_violation(name, message)
}

#[cold]
fn unreadable(name: &str, rejection: PathRejection) -> Problem {
    let rejection = match rejection {
        PathRejection::FailedToDeserializePathParams(rejection) => rejection,
        // The route has no parameter at all.
        _ => return no_such_parameter(name),
    };
    match rejection.kind() {
        ErrorKind::InvalidUtf8InPathParam { key } => invalid(StatusCode::BAD_REQUEST)
            .detail(format!("path parameter {key:?}: expected UTF-8 behind the percent signs"))
            .parameter_violation(key.clone(), "expected UTF-8 behind the percent signs"),
        _ => Problem::from(Cause::Internal).explained_by(&rejection),
    }
}

#[cold]
fn no_such_parameter(name: &str) -> Problem {
    Problem::from(Cause::Internal).explained_by(&Explanation(format!("the route's path has no parameter {name:?}")))
}
