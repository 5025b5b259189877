//! What is known of a route: where its arguments come from, how it answers, and what may go wrong.
//!
//! The OpenAPI document, the `routes` command and the checks at start are made from this description alone.

use std::{any::type_name, borrow::Cow, fmt};

use http::{Method, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::policy::RoutePolicy;
use crate::problem::ProblemInfo;

/// What is known of one route.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RouteInfo {
    /// The method it answers; GET answers HEAD too. POST for an rpc.
    pub method: Method,
    /// The path template, as axum has it: `/orders/{id}`. `/orders.v1.Orders/GetOrder` for an rpc.
    pub path: Cow<'static, str>,
    /// The name of the method that answers.
    pub handler: &'static str,
    /// The type whose method answers, with its module path; empty for a route that is described by hand.
    pub service: &'static str,
    /// How callers speak to it.
    pub kind: RouteKind,
    /// The method's doc comment; empty when it has none.
    pub doc: &'static str,
    /// The groups it belongs to in the OpenAPI document.
    pub tags: Vec<&'static str>,
    /// What is asked of the route beyond its handler.
    pub policy: RoutePolicy,
    /// Where the arguments come from, in the order of the signature; extractors are not among them.
    pub arguments: Vec<ArgumentInfo>,
    /// How a success is answered.
    pub answer: AnswerInfo,
    /// The problems that the handler itself may tell; those of the chassis are not among them.
    pub problems: Vec<ProblemInfo>,
}

/// How callers speak to a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// Plain HTTP.
    Http,
    /// A unary gRPC method.
    Rpc,
}

impl RouteInfo {
    /// A route of which nothing further is known.
    #[must_use]
    pub fn new(method: Method, path: impl Into<Cow<'static, str>>, handler: &'static str) -> Self {
        Self {
            method,
            path: path.into(),
            handler,
            service: "",
            kind: RouteKind::Http,
            doc: "",
            tags: Vec::new(),
            policy: RoutePolicy::new(),
            arguments: Vec::new(),
            answer: AnswerInfo::default(),
            problems: Vec::new(),
        }
    }

    /// A unary method of a gRPC service: `RouteInfo::rpc("orders.v1.Orders", "GetOrder", "order")`.
    #[must_use]
    pub fn rpc(service: &str, method: &str, handler: &'static str) -> Self {
        Self { kind: RouteKind::Rpc, ..Self::new(Method::POST, format!("/{service}/{method}"), handler) }
    }

    /// The same route with its doc comment.
    #[must_use]
    pub fn doc(mut self, doc: &'static str) -> Self {
        self.doc = doc;
        self
    }

    /// The same route in further groups of the document.
    #[must_use]
    pub fn tags(mut self, tags: &[&'static str]) -> Self {
        self.tags.extend(tags);
        self
    }

    /// The same route with a policy.
    #[must_use]
    pub fn policy(mut self, policy: RoutePolicy) -> Self {
        self.policy = policy;
        self
    }

    /// The same route with one argument more.
    #[must_use]
    pub fn argument(mut self, argument: ArgumentInfo) -> Self {
        self.arguments.push(argument);
        self
    }

    /// The same route with how it answers.
    #[must_use]
    pub fn answer(mut self, answer: AnswerInfo) -> Self {
        self.answer = answer;
        self
    }

    /// The same route with the problems it may tell.
    #[must_use]
    pub fn problems(mut self, problems: Vec<ProblemInfo>) -> Self {
        self.problems = problems;
        self
    }
}

/// One argument of a handler.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ArgumentInfo {
    /// The parameter's name in the path, or the argument's own.
    pub name: &'static str,
    /// Where it comes from.
    pub source: Source,
    /// What it is.
    pub ty: TypeInfo,
}

impl ArgumentInfo {
    /// An argument from this place.
    #[must_use]
    pub fn new(source: Source, name: &'static str, ty: TypeInfo) -> Self {
        Self { name, source, ty }
    }
}

/// Where an argument comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A parameter of the path.
    Path,
    /// The query as a whole: each field is a parameter.
    Query,
    /// The JSON body.
    Body,
    /// The field of an rpc's message that has the argument's name.
    Field,
    /// An rpc's message as a whole.
    Message,
}

/// How a success is answered.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AnswerInfo {
    /// The status, and what the body is made of.
    pub kind: AnswerKind,
    /// The type of the body, or of each item of a stream.
    pub body: TypeInfo,
}

impl AnswerInfo {
    /// An answer of this kind, with this body.
    #[must_use]
    pub fn new(kind: AnswerKind, body: TypeInfo) -> Self {
        Self { kind, body }
    }
}

impl Default for AnswerInfo {
    /// Nothing is known of the answer.
    fn default() -> Self {
        Self::new(AnswerKind::default(), TypeInfo::unknown::<()>())
    }
}

/// The status of a success, and what its body is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AnswerKind {
    /// The status; `None` when the handler chooses it.
    pub status: Option<StatusCode>,
    /// What the body is made of.
    pub content: Content,
}

impl AnswerKind {
    /// An answer with this status and content.
    #[must_use]
    pub const fn new(status: StatusCode, content: Content) -> Self {
        Self { status: Some(status), content }
    }
}

impl Default for AnswerKind {
    /// The handler chooses.
    fn default() -> Self {
        Self { status: None, content: Content::Other }
    }
}

/// What a body is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// There is no body.
    Empty,
    /// One JSON value: `application/json`.
    Json,
    /// Server-sent events, each with a JSON value: `text/event-stream`.
    Events,
    /// JSON values, one a line: `application/x-ndjson`.
    JsonLines,
    /// The handler chooses.
    Other,
}

/// A type and, when it implements [`JsonSchema`], its schema.
#[derive(Clone, Copy)]
pub struct TypeInfo {
    name: fn() -> &'static str,
    schema: Option<fn(&mut SchemaGenerator) -> Schema>,
}

impl TypeInfo {
    /// A type that can tell its schema.
    #[must_use]
    pub fn of<T: JsonSchema>() -> Self {
        Self { name: type_name::<T>, schema: Some(SchemaGenerator::subschema_for::<T>) }
    }

    /// A type of which only the name is known.
    #[must_use]
    pub fn unknown<T>() -> Self {
        Self { name: type_name::<T>, schema: None }
    }

    /// The type's name with its module path, for people to read.
    #[must_use]
    pub fn name(&self) -> &'static str {
        (self.name)()
    }

    /// The schema, as a reference to a definition that the generator keeps, where the type has a name of its own.
    /// `None` when the type does not implement [`JsonSchema`].
    pub fn schema(&self, generator: &mut SchemaGenerator) -> Option<Schema> {
        self.schema.map(|schema| schema(generator))
    }
}

impl fmt::Debug for TypeInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypeInfo").field("name", &self.name()).field("has_schema", &self.schema.is_some()).finish()
    }
}
