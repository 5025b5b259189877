//! How generated code finds out what a client's method returns, as `service::select` does it for handlers.

use serde::de::DeserializeOwned;

use super::{answer::FromAnswer, call::Call, error::CallError};
use crate::service::select::Probe; // floor: one way to let the compiler choose

/// What a method of a client returns: a `Result` whose error can be made from a [`CallError`].
#[diagnostic::on_unimplemented(
    message = "a call may fail, and `{Self}` cannot say so",
    label = "expected a `Result` whose error can be made from a `CallError`",
    note = "return `Result<T, chassis::client::CallError>`, or `Result<T, E>` with an `E` that implements `From<CallError>`"
)]
pub trait Outcome {
    /// What it is when it is well.
    type Value;

    /// Its value's type, and how it is made from the result of a call.
    #[allow(clippy::type_complexity, reason = "one look-up, so that a type that is no outcome is told once")]
    fn parts() -> (Probe<Self::Value>, fn(Result<Self::Value, CallError>) -> Self);
}

#[diagnostic::do_not_recommend]
impl<T, E: From<CallError>> Outcome for Result<T, E> {
    type Value = T;

    fn parts() -> (Probe<T>, fn(Result<T, CallError>) -> Self) {
        (Probe::new(), |result| result.map_err(E::from))
    }
}

macro_rules! choice {
    ($(#[$doc:meta])* $trait:ident for $probe:ty, $($bound:path)? => $read:ident) => {
        $(#[$doc])*
        pub trait $trait {
            /// How to read it.
            fn __read(&self) -> $read {
                $read
            }
        }

        impl<T $(: $bound)?> $trait for $probe {}
    };
}

choice! {
    /// First choice of `__read`: a type that a response can become.
    AsAnswer for &&Probe<T>, FromAnswer => ReadAnswer
}
choice! {
    /// Second choice of `__read`: JSON.
    AsJsonAnswer for &Probe<T>, DeserializeOwned => ReadJson
}
choice! {
    /// Last choice of `__read`: leads to the error message.
    AsNoAnswer for Probe<T>, => ReadNothing
}

/// Reads through [`FromAnswer`].
#[derive(Debug)]
pub struct ReadAnswer;

impl ReadAnswer {
    /// Sends the call.
    pub fn send<T: FromAnswer>(self, call: Call) -> impl Future<Output = Result<T, CallError>> + Send {
        call.answer()
    }
}

/// Reads JSON.
#[derive(Debug)]
pub struct ReadJson;

impl ReadJson {
    /// Sends the call.
    pub fn send<T: DeserializeOwned>(self, call: Call) -> impl Future<Output = Result<T, CallError>> + Send {
        call.json()
    }
}

/// Cannot be read: the call does not compile, and says what to do.
#[derive(Debug)]
pub struct ReadNothing;

impl ReadNothing {
    /// No call.
    pub fn send<T: CallAnswer>(self, _: Call) -> impl Future<Output = Result<T, CallError>> + Send {
        std::future::pending()
    }
}

/// Implemented by no type that gets here.
#[diagnostic::on_unimplemented(
    message = "an answer cannot become a `{Self}`",
    label = "a client's method cannot return this",
    note = "add `#[derive(serde::Deserialize)]` to `{Self}` for a JSON answer, or return `Created<T>`, `Accepted<T>`, `NoContent`, `()`, `Raw<String>` or an `http::Response<Bytes>`"
)]
pub trait CallAnswer {}
