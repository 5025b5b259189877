//! How generated code finds out what a handler returns.
//!
//! A blanket `impl Reply for T: Serialize` beside `impl Reply for Result<…>` is not possible without specialization, and a
//! macro that looked at the name of the type would be wrong on an alias. So the generated code lets the compiler choose:
//! methods of one name stand on `Probe<T>`, `&Probe<T>`, `&&Probe<T>` …, and a call on a reference deep enough takes the
//! first that fits, from the most references to the fewest. The choice costs nothing at run time.

use std::{convert::Infallible, marker::PhantomData};

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    arguments::Rejection,
    info::{AnswerKind, Content, TypeInfo},
    reply::{Reply, json},
};
use crate::problem::{IntoProblem, Problem, ProblemInfo};

/// Carries a type to the method lookup.
#[derive(Debug)]
pub struct Probe<T>(PhantomData<fn() -> T>);

impl<T> Probe<T> {
    /// A type by its name.
    #[must_use]
    pub fn new() -> Self {
        Self(PhantomData)
    }

    /// The type of a value.
    pub fn of(_: &T) -> Self {
        Self::new()
    }

    /// The type that a future ends with. The future is never made: that is how the return type of a handler is found
    /// without being named, `impl Trait` and all.
    pub fn output<F: Future<Output = T>>(_: impl FnOnce() -> F) -> Self {
        Self::new()
    }
}

impl<T> Default for Probe<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// A value of any type, where none is ever asked for.
pub fn never<T>() -> T {
    unreachable!("a future that only lends its type was run")
}

/// First choice of `__outcome`, on two references: a `Result`.
pub trait MayFail {
    /// What it is when it is well.
    type Value;
    /// What it is when it is not.
    type Error;

    /// How to take it apart.
    fn __outcome(&self) -> Fallible {
        Fallible
    }

    /// Its two types.
    fn __parts(&self) -> (Probe<Self::Value>, Probe<Self::Error>) {
        (Probe::new(), Probe::new())
    }
}

impl<T, E> MayFail for &Probe<Result<T, E>> {
    type Value = T;
    type Error = E;
}

/// Last choice of `__outcome`, on one reference: a plain value.
pub trait CannotFail {
    /// What it is.
    type Value;

    /// How to take it apart.
    fn __outcome(&self) -> Plain {
        Plain
    }

    /// Its type, and that of no error.
    fn __parts(&self) -> (Probe<Self::Value>, Probe<Infallible>) {
        (Probe::new(), Probe::new())
    }
}

impl<T> CannotFail for Probe<T> {
    type Value = T;
}

/// First choice of `__schema`, on two references: a type that can tell its schema.
pub trait HasSchema {
    /// The type with its schema.
    fn __schema(&self) -> TypeInfo;
}

impl<T: JsonSchema> HasSchema for &Probe<T> {
    fn __schema(&self) -> TypeInfo {
        TypeInfo::of::<T>()
    }
}

/// Last choice of `__schema`, on one reference: any other type.
pub trait NoSchema {
    /// The type without a schema.
    fn __schema(&self) -> TypeInfo;
}

impl<T> NoSchema for Probe<T> {
    fn __schema(&self) -> TypeInfo {
        TypeInfo::unknown::<T>()
    }
}

/// First choice of `__problems`, on two references: an error that can be told.
pub trait HasProblems {
    /// What it can become.
    fn __problems(&self) -> Vec<ProblemInfo>;
}

impl<T: IntoProblem> HasProblems for &Probe<T> {
    fn __problems(&self) -> Vec<ProblemInfo> {
        T::describe()
    }
}

/// Last choice of `__problems`, on one reference: that it cannot be told is said elsewhere.
pub trait NoProblems {
    /// Nothing.
    fn __problems(&self) -> Vec<ProblemInfo> {
        Vec::new()
    }
}

impl<T> NoProblems for Probe<T> {}

/// A handler that returns a `Result`.
#[derive(Debug)]
pub struct Fallible;

impl Fallible {
    /// The value, or the refusal that the error becomes.
    pub fn split<T, E: IntoProblem>(self, outcome: Result<T, E>) -> Result<T, Rejection> {
        outcome.map_err(|error| error.into_problem().into())
    }

    /// The value, or the problem that the error becomes.
    pub fn tell<T, E: IntoProblem>(self, outcome: Result<T, E>) -> Result<T, Problem> {
        outcome.map_err(IntoProblem::into_problem)
    }
}

/// A handler that returns a value.
#[derive(Debug)]
pub struct Plain;

impl Plain {
    /// The value.
    pub fn split<T>(self, value: T) -> Result<T, Rejection> {
        Ok(value)
    }

    /// The value.
    pub fn tell<T>(self, value: T) -> Result<T, Problem> {
        Ok(value)
    }
}

macro_rules! choice {
    ($(#[$doc:meta])* $trait:ident for $probe:ty, $bound:path => $answer:ident) => {
        $(#[$doc])*
        pub trait $trait {
            /// How to answer it.
            fn __answer(&self) -> $answer {
                $answer
            }
        }

        impl<T: $bound> $trait for $probe {}
    };
}

choice! {
    /// First choice of `__answer`: a type that knows how it is answered.
    AsReply for &&&Probe<T>, Reply => WithReply
}
choice! {
    /// Second choice of `__answer`: JSON.
    AsJson for &&Probe<T>, Serialize => WithJson
}
choice! {
    /// Third choice of `__answer`: what axum can answer.
    AsResponse for &Probe<T>, IntoResponse => WithResponse
}
choice! {
    /// Last choice of `__answer`: leads to the error message.
    AsNothing for Probe<T>, Any => WithNothing
}

/// Every type.
pub trait Any {}
impl<T> Any for T {}

/// Answers through [`Reply`].
#[derive(Debug)]
pub struct WithReply;

impl WithReply {
    /// The answer.
    pub fn write<T: Reply>(self, value: T) -> Response {
        value.reply()
    }

    /// Its kind, and what is in its body.
    pub fn kind<T: Reply>(self, _: &Probe<T>) -> (AnswerKind, Probe<T::Body>) {
        (T::kind(), Probe::new())
    }
}

/// Answers with JSON.
#[derive(Debug)]
pub struct WithJson;

impl WithJson {
    /// The answer.
    pub fn write<T: Serialize>(self, value: T) -> Response {
        json(StatusCode::OK, &value)
    }

    /// Its kind, and what is in its body.
    pub fn kind<T>(self, _: &Probe<T>) -> (AnswerKind, Probe<T>) {
        (AnswerKind::new(StatusCode::OK, Content::Json), Probe::new())
    }
}

/// Answers through axum's [`IntoResponse`].
#[derive(Debug)]
pub struct WithResponse;

impl WithResponse {
    /// The answer.
    pub fn write<T: IntoResponse>(self, value: T) -> Response {
        value.into_response()
    }

    /// Its kind: axum's answers say nothing of themselves.
    pub fn kind<T>(self, _: &Probe<T>) -> (AnswerKind, Probe<()>) {
        (AnswerKind::default(), Probe::new())
    }
}

/// Does not answer: the call does not compile, and says what to do.
#[derive(Debug)]
pub struct WithNothing;

impl WithNothing {
    /// No answer.
    pub fn write<T: Answer>(self, _: T) -> Response {
        StatusCode::NOT_IMPLEMENTED.into_response()
    }

    /// No kind.
    pub fn kind<T>(self, _: &Probe<T>) -> (AnswerKind, Probe<()>) {
        (AnswerKind::default(), Probe::new())
    }
}

/// Implemented by no type that gets here.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an answer",
    label = "a handler cannot return this",
    note = "add `#[derive(serde::Serialize)]` to `{Self}` for a JSON answer, or return `Created<T>`, `Accepted<T>`, `NoContent` or an axum response"
)]
pub trait Answer {}

/// Asks of a handler's future what the server asks, at the place where the handler is named.
pub fn send<F: Future + Send>(future: F) -> F {
    future
}
