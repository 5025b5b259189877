//! Rules of domain types: a type that implements `garde::Validate` is checked after it was read.
//!
//! The compiler chooses, as in `select.rs`: a type without rules costs nothing.
//!
//! The places are told in the caller's names. garde knows the names of the fields in Rust, serde those in JSON, and
//! neither knows both; so the fields that serde would read are asked for, and the one that differs only in case and
//! underscores is taken. That undoes every `#[serde(rename_all)]`.

use std::fmt::Write as _;

use garde::{Report, Validate};
use http::StatusCode;
use serde::{
    Deserialize,
    de::{
        Deserializer, IntoDeserializer, Visitor,
        value::{Error as Plain, MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};

use super::{
    arguments::{MAX_MISTAKES, Rejection, invalid, refused},
    info::Source,
    select::Probe,
};
use crate::{
    cause::Cause,
    problem::{Problem, clipped, field_path, push_step},
};

/// Checks a value by its own rules. What `#[service]` does with every argument whose type has some.
///
/// The places are the names of the fields in Rust.
///
/// # Errors
///
/// 422 `invalid_request` (`INVALID_ARGUMENT`) with every broken rule as a violation, up to 20 of them.
pub fn validate<T>(value: &T) -> Result<(), Problem>
where
    T: Validate + ?Sized,
    T::Context: Default,
{
    check(value).map_err(|report| told(&broken(&report), Source::Body, ""))
}

/// First choice of `__check`, on two references: a type with rules, and names that serde knows.
pub trait HasNamedRules {
    /// How to check it.
    fn __check(&self) -> WithNamedRules {
        WithNamedRules
    }
}

impl<T> HasNamedRules for &Probe<T>
where
    T: Validate + for<'de> Deserialize<'de>,
    T::Context: Default,
{
}

/// Second choice of `__check`, on three references: a type with rules.
pub trait HasRules {
    /// How to check it.
    fn __check(&self) -> WithRules {
        WithRules
    }
}

impl<T> HasRules for &&Probe<T>
where
    T: Validate,
    T::Context: Default,
{
}

/// Last choice of `__check`, on one reference: any other type.
pub trait NoRules {
    /// How not to check it.
    fn __check(&self) -> WithoutRules {
        WithoutRules
    }
}

impl<T> NoRules for Probe<T> {}

/// Checks, and tells places in the caller's names.
#[derive(Debug)]
pub struct WithNamedRules;

impl WithNamedRules {
    /// An argument over HTTP: 422 for a body, 400 for a path and a query, with every broken rule.
    #[inline]
    pub fn http<T>(self, value: &T, source: Source, name: &str) -> Result<(), Rejection>
    where
        T: Validate + for<'de> Deserialize<'de>,
        T::Context: Default,
    {
        check(value)
            .map_err(|report| refused(told(&named::<T>(&report, Names::Serde), source, http_name(source, name))))
    }

    /// An argument over gRPC; the places are below the field of this name, or at the top when it is empty.
    #[inline]
    pub fn rpc<T>(self, value: &T, name: &str) -> Result<(), Problem>
    where
        T: Validate + for<'de> Deserialize<'de>,
        T::Context: Default,
    {
        check(value).map_err(|report| misfit(&named::<T>(&report, Names::Rust), name))
    }
}

/// Checks.
#[derive(Debug)]
pub struct WithRules;

impl WithRules {
    /// An argument over HTTP: 422 for a body, 400 for a path and a query, with every broken rule.
    #[inline]
    pub fn http<T>(self, value: &T, source: Source, name: &str) -> Result<(), Rejection>
    where
        T: Validate,
        T::Context: Default,
    {
        check(value).map_err(|report| refused(told(&broken(&report), source, http_name(source, name))))
    }

    /// An argument over gRPC; the places are below the field of this name, or at the top when it is empty.
    #[inline]
    pub fn rpc<T>(self, value: &T, name: &str) -> Result<(), Problem>
    where
        T: Validate,
        T::Context: Default,
    {
        check(value).map_err(|report| misfit(&broken(&report), name))
    }
}

/// Does not check.
#[derive(Debug)]
pub struct WithoutRules;

impl WithoutRules {
    /// Every value is well.
    #[inline]
    pub fn http<T>(self, _: &T, _: Source, _: &str) -> Result<(), Rejection> {
        Ok(())
    }

    /// Every value is well.
    #[inline]
    pub fn rpc<T>(self, _: &T, _: &str) -> Result<(), Problem> {
        Ok(())
    }
}

fn check<T>(value: &T) -> Result<(), Report>
where
    T: Validate + ?Sized,
    T::Context: Default,
{
    value.validate()
}

/// One broken rule: its place and what it says.
struct Broken {
    place: Vec<Step>,
    message: String,
}

/// One step of a place.
#[derive(Clone)]
enum Step {
    Name(String),
    Index(String),
}

/// The broken rules that are told, and how many there are: a body of a list may break one for every few bytes.
struct BrokenRules {
    told: Vec<Broken>,
    all: usize,
}

#[cold]
fn broken(report: &Report) -> BrokenRules {
    let told = report
        .iter()
        .take(MAX_MISTAKES)
        .map(|(path, error)| Broken { place: taken_apart(path), message: clipped(error.message()).into_owned() })
        .collect();
    BrokenRules { told, all: report.iter().count() }
}

#[cold]
fn named<T: for<'de> Deserialize<'de>>(report: &Report, names: Names) -> BrokenRules {
    let mut broken = broken(report);
    for rule in &mut broken.told {
        rule.place = in_callers_names::<T>(&rule.place, names);
    }
    broken
}

/// An HTTP body is the argument itself; its name in Rust is nobody's business.
fn http_name(source: Source, name: &str) -> &str {
    if source == Source::Body { "" } else { name }
}

/// Whose names a caller knows.
#[derive(Clone, Copy, PartialEq)]
enum Names {
    /// Those in JSON.
    Serde,
    /// Those of a message's fields, which are as in Rust.
    Rust,
}

/// garde shows the steps of a path as text, where a key with a dot in it looks like two, and as serialized pairs.
fn taken_apart(path: &garde::Path) -> Vec<Step> {
    let pairs: Vec<(String, String)> = serde_json::to_value(path).and_then(serde_json::from_value).unwrap_or_default();
    pairs
        .into_iter()
        .filter_map(|(kind, step)| match kind.as_str() {
            "index" => Some(Step::Index(step)),
            "key" => Some(Step::Name(step)),
            _ => None,
        })
        .collect()
}

/// An rpc's argument was turned away before the handler was called.
fn misfit(broken: &BrokenRules, name: &str) -> Problem {
    told(broken, Source::Message, name).refused(Cause::InvalidRequest)
}

fn told(broken: &BrokenRules, source: Source, name: &str) -> Problem {
    let (status, what) = match source {
        Source::Body => (StatusCode::UNPROCESSABLE_ENTITY, "the body"),
        Source::Field | Source::Message => (StatusCode::UNPROCESSABLE_ENTITY, "the message"),
        Source::Query => (StatusCode::BAD_REQUEST, "the query"),
        Source::Path => (StatusCode::BAD_REQUEST, "the path"),
    };
    let mut problem = invalid(status);
    for (index, Broken { place, message }) in broken.told.iter().enumerate() {
        let (place, message, told) = match source {
            Source::Body | Source::Field | Source::Message => {
                let mut pointer = String::new();
                if !name.is_empty() {
                    push_step(&mut pointer, name);
                }
                for Step::Name(step) | Step::Index(step) in place {
                    push_step(&mut pointer, step);
                }
                let pointer = clipped(&pointer).into_owned();
                let place = if source == Source::Body { pointer.clone() } else { field_path(&pointer) };
                (place, message.clone(), problem.violation(pointer, message))
            }
            Source::Path => parameter(problem, name, place, message),
            Source::Query => match place.split_first() {
                Some((Step::Name(name), inner)) => parameter(problem, name, inner, message),
                _ => parameter(problem, name, place, message),
            },
        };
        problem = told;
        if index == 0 {
            let separator = if place.is_empty() { "" } else { ": " };
            let rest = match broken.all {
                ..=MAX_MISTAKES => String::new(),
                all => format!(" ({MAX_MISTAKES} of {all} mistakes are listed)"),
            };
            problem = problem.detail(format!("{what} is not valid: {place}{separator}{message}{rest}"));
        }
    }
    problem
}

/// A parameter is named alone; what is inside of it, such as a place in a list, goes to the message.
fn parameter(problem: Problem, name: &str, inside: &[Step], message: &str) -> (String, String, Problem) {
    let mut text = String::new();
    for step in inside {
        let _ = match step {
            Step::Name(step) => write!(text, ".{step}"),
            Step::Index(step) => write!(text, "[{step}]"),
        };
    }
    if !text.is_empty() {
        text.push_str(": ");
    }
    text.push_str(message);
    let (name, text) = (clipped(name), clipped(&text).into_owned());
    (name.to_string(), text.clone(), problem.parameter_violation(name, text))
}

/// The place as a caller knows it. What serde does not tell of is left as it is.
fn in_callers_names<T: for<'de> Deserialize<'de>>(place: &[Step], names: Names) -> Vec<Step> {
    let mut walk = Walk { place, names, used: 0, named: Vec::new() };
    // It ends with an error always: there is no value to read.
    let _ = T::deserialize(Follow { walk: &mut walk, in_newtype: false });
    let Walk { used, mut named, .. } = walk;
    named.extend_from_slice(&place[used..]);
    named
}

struct Walk<'p> {
    place: &'p [Step],
    names: Names,
    /// How many steps of the place have been followed.
    used: usize,
    named: Vec<Step>,
}

/// Follows a place into a type, and notes the names it meets.
struct Follow<'w, 'p> {
    walk: &'w mut Walk<'p>,
    /// A struct of one unnamed field is a step for garde and none for serde.
    in_newtype: bool,
}

fn ended<T>() -> Result<T, Plain> {
    Err(serde::de::Error::custom("only asked"))
}

impl<'p> Follow<'_, 'p> {
    /// The next step, without the one that a newtype adds.
    fn step(&mut self) -> Option<&'p Step> {
        if self.in_newtype {
            self.in_newtype = false;
            self.walk.used += 1;
        }
        self.walk.place.get(self.walk.used)
    }

    fn take(&mut self, step: Step) {
        self.walk.used += 1;
        self.walk.named.push(step);
    }
}

impl<'de> IntoDeserializer<'de, Plain> for Follow<'_, '_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Follow<'_, '_> {
    type Error = Plain;

    fn deserialize_any<V: Visitor<'de>>(mut self, _: V) -> Result<V::Value, Plain> {
        self.step();
        ended()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Plain> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(mut self, _: &'static str, visitor: V) -> Result<V::Value, Plain> {
        self.in_newtype = matches!(self.step(), Some(Step::Index(index)) if index == "0");
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Plain> {
        // `#[garde(transparent)]` takes the step of the newtype away: a single index is the list's own.
        self.in_newtype &= matches!(self.walk.place.get(self.walk.used + 1), Some(Step::Index(_)));
        match self.step() {
            Some(step @ Step::Index(_)) => {
                self.take(step.clone());
                visitor.visit_seq(SeqDeserializer::new(std::iter::once(self)))
            }
            _ => ended(),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Plain> {
        match self.step() {
            Some(step @ Step::Name(key)) => {
                self.take(step.clone());
                visitor.visit_map(MapDeserializer::new(std::iter::once((key.as_str(), self))))
            }
            _ => ended(),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Plain> {
        let Some(Step::Name(name)) = self.step() else { return ended() };
        let mut alike = fields.iter().filter(|field| plain(field).eq(plain(name)));
        let field = match (fields.iter().find(|field| *field == name), alike.next(), alike.next()) {
            (Some(same), ..) => same,
            (None, Some(one), None) => one,
            _ => return ended(),
        };
        let told = if self.walk.names == Names::Serde { field } else { name.as_str() };
        self.take(Step::Name(told.to_owned()));
        visitor.visit_map(MapDeserializer::new(std::iter::once((*field, self))))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple
        tuple_struct enum identifier ignored_any
    }
}

/// A name without what `#[serde(rename_all)]` changes.
fn plain(name: &str) -> impl Iterator<Item = char> + '_ {
    let name = name.strip_prefix("r#").unwrap_or(name);
    name.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase)
}

#[cfg(test)]
mod tests;
