//! The query, read as a struct or a map: each field is a parameter.
//!
//! The rules are those of HTML forms (WHATWG URL §5.1): `+` is a space, `%2B` a plus. Two things are stricter: what is not
//! UTF-8 is refused, and so is a parameter that is given twice where one value is wanted. A list takes a parameter as often
//! as it is given. A value that is empty is no value for an `Option` whose type cannot be read from nothing: `limit=`.
//!
//! Behind `#[serde(flatten)]`, `tag` and `untagged` serde asks for no type: [`untyped`](super::untyped) finds the fitting one.

use std::{borrow::Cow, cell::Cell};

use http::StatusCode;
use percent_encoding::percent_decode_str;
use serde::{
    Deserialize,
    de::{
        DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};

use super::{
    rejection::{Rejection, invalid, refused},
    stand_in::StandIn,
    text::{Misfit, Text},
    untyped::{Form, attempt, likeliest},
};
use crate::problem::{Problem, clipped};

/// The most mistakes that are told of one request.
pub(in crate::service) const MAX_MISTAKES: usize = 20;

/// How many parameters of a map are found empty one by one, each by another reading, before all that are empty are none.
const MAX_EMPTIED: usize = 20;

/// The whole query.
pub(super) fn read<T: for<'de> Deserialize<'de>>(query: &str) -> Result<T, Rejection> {
    let mut pairs = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (decoded(name), decoded(value)) {
            (Some(name), Some(value)) => pairs.push(Pair::new(name, Value::Text(value))),
            _ => return Err(refused(not_utf8(name))),
        }
    }
    let mut readings = 0;
    match attempt(&mut pairs, &mut readings) {
        Ok(value) => Ok(value),
        Err((place, misfit)) => again(&mut pairs, &mut readings, place, misfit),
    }
}

/// None when it is not UTF-8.
fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.bytes().any(|byte| matches!(byte, b'+' | b'%')) {
        return Some(Cow::Borrowed(text));
    }
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(|text| Cow::Owned(text.into_owned()))
}

#[cold]
fn not_utf8(name: &str) -> Problem {
    let name = percent_decode_str(name).decode_utf8_lossy().into_owned();
    told(&[(Some(name), "expected UTF-8 behind the percent signs".to_owned())])
}

/// The parameter, when it is one, and what is wrong with it.
type Mistake = (Option<String>, String);

/// Reads it once more for every mistake, with a stand-in for what did not fit.
#[cold]
fn again<T: for<'de> Deserialize<'de>>(
    pairs: &mut Vec<Pair<'_>>,
    readings: &mut usize,
    mut place: Option<Place>,
    mut misfit: Misfit,
) -> Result<T, Rejection> {
    let mut mistakes: Vec<Mistake> = Vec::new();
    let mut emptied = 0;
    loop {
        let missing = misfit.field.map(|field| Place { name: field.to_owned(), unknown: false, in_map: false });
        let Some(Place { name, unknown, in_map }) = place.or(missing) else {
            if mistakes.is_empty() {
                mistakes.push((None, misfit.message));
            }
            break;
        };
        if pairs.iter().any(|pair| pair.name == name && matches!(pair.value, Value::StandIn)) {
            // Even the stand-in did not fit: nothing further can be found out.
            break;
        }
        let is_empty = |pair: &Pair<'_>| matches!(&pair.value, Value::Text(text) if text.is_empty());
        if !unknown && pairs.iter().any(|pair| pair.name == name && is_empty(pair)) {
            emptied += 1;
            // A struct has only so many fields. The values of a map are of one type, but for `#[serde(flatten)]`.
            let all = in_map && emptied > MAX_EMPTIED;
            for pair in pairs.iter_mut().filter(|pair| is_empty(pair) && (all || pair.name == name)) {
                pair.value = Value::Empty;
            }
        } else {
            mistakes.push((Some(name.clone()), misfit.message));
            pairs.retain(|pair| pair.name != name);
            if !unknown {
                pairs.push(Pair::new(name.into(), Value::StandIn));
            }
        }
        if mistakes.len() == MAX_MISTAKES {
            break;
        }
        match attempt(pairs, readings) {
            Ok(value) if mistakes.is_empty() => return Ok(value),
            Ok(_) => break,
            Err(next) => (place, misfit) = next,
        }
    }
    Err(refused(told(&mistakes)))
}

fn told(mistakes: &[Mistake]) -> Problem {
    let mut problem = invalid(StatusCode::BAD_REQUEST);
    for (index, (name, message)) in mistakes.iter().enumerate() {
        let (name, message) = (name.as_deref().map(clipped), clipped(message));
        if index == 0 {
            let place = match name.as_deref() {
                None => String::new(),
                // `?=7`
                Some("") => "a parameter without a name: ".to_owned(),
                Some(name) => format!("{name}: "),
            };
            problem = problem.detail(format!("the query does not fit: {place}{message}"));
        }
        if let Some(name) = name {
            problem = problem.parameter_violation(name, message);
        }
    }
    problem
}

pub(super) struct Pair<'a> {
    pub(super) name: Cow<'a, str>,
    value: Value<'a>,
    /// How it is read where no type is asked for.
    pub(super) form: Form,
    /// Whether it was read so.
    pub(super) untyped: Cell<bool>,
}

impl<'a> Pair<'a> {
    pub(super) fn new(name: Cow<'a, str>, value: Value<'a>) -> Self {
        let form = likeliest(value.text());
        Self { name, value, form, untyped: Cell::new(false) }
    }

    pub(super) fn text(&self) -> &str {
        self.value.text()
    }
}

pub(super) enum Value<'a> {
    Text(Cow<'a, str>),
    /// Empty, and that did not fit: none for an `Option`.
    Empty,
    StandIn,
}

impl Value<'_> {
    fn text(&self) -> &str {
        if let Value::Text(text) = self { text } else { "" }
    }
}

/// Where reading ended.
pub(super) struct Place {
    pub(super) name: String,
    /// The name itself was not wanted.
    pub(super) unknown: bool,
    /// Any name is wanted.
    pub(super) in_map: bool,
}

pub(super) struct Query<'p, 'q, 'c> {
    pub(super) pairs: &'p mut [Pair<'q>],
    pub(super) place: &'c Cell<Option<Place>>,
}

impl<'p, 'q, 'c> Query<'p, 'q, 'c> {
    fn parameters(self, in_map: bool) -> Parameters<'p, 'q, 'c> {
        // Stable, so the values of a list keep their order.
        self.pairs.sort_by(|one, other| one.name.cmp(&other.name));
        Parameters { rest: self.pairs, group: &[], place: self.place, in_map }
    }
}

impl<'de> Deserializer<'de> for Query<'de, '_, '_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_map(self.parameters(true))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_map(self.parameters(false))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let pairs: &'de [Pair<'_>] = self.pairs;
        visitor.visit_seq(MapDeserializer::new(
            pairs.iter().map(|pair| (Text::<false>(&pair.name), Text::<false>(pair.value.text()))),
        ))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        if self.pairs.is_empty() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit_struct tuple tuple_struct
        map enum identifier ignored_any
    }
}

/// The parameters by name, each with all its values.
struct Parameters<'p, 'q, 'c> {
    rest: &'p [Pair<'q>],
    group: &'p [Pair<'q>],
    place: &'c Cell<Option<Place>>,
    in_map: bool,
}

impl Parameters<'_, '_, '_> {
    #[cold]
    fn ended_at(&self, name: &str, unknown: bool) {
        self.place.set(Some(Place { name: name.to_owned(), unknown, in_map: self.in_map }));
    }
}

impl<'de> MapAccess<'de> for Parameters<'de, '_, '_> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Misfit> {
        let Some(first) = self.rest.first() else { return Ok(None) };
        let same = self.rest.iter().take_while(|pair| pair.name == first.name).count();
        (self.group, self.rest) = self.rest.split_at(same);
        seed.deserialize(Text::<false>(&first.name)).map(Some).inspect_err(|_| self.ended_at(&first.name, true))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        seed.deserialize(Values(self.group)).inspect_err(|_| {
            if let Some(first) = self.group.first() {
                self.ended_at(&first.name, false);
            }
        })
    }
}

/// What is given for one parameter: at least one value.
struct Values<'p, 'q>(&'p [Pair<'q>]);

/// Reads one value; the message says what was found.
fn one<'de, R>(values: &'de [Pair<'_>], read: impl FnOnce(Text<'de>) -> Result<R, Misfit>) -> Result<R, Misfit> {
    match values {
        [pair] => read(Text::<false>(pair.value.text())).map_err(|misfit| found(pair.value.text(), misfit)),
        _ => Err(Misfit::custom(format_args!("is given {} times, expected one value", values.len()))),
    }
}

#[cold]
fn found(text: &str, mut misfit: Misfit) -> Misfit {
    misfit.message = format!("found {text:?}, {misfit}");
    misfit
}

macro_rules! one {
    ($($method:ident)+) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
                match self.0 {
                    [Pair { value: Value::StandIn, .. }] => StandIn::default().$method(visitor),
                    values => one(values, |text| text.$method(visitor)),
                }
            }
        )+
    };
}

impl<'de> Deserializer<'de> for Values<'de, '_> {
    type Error = Misfit;

    one! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128 deserialize_u8
        deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64 deserialize_char
        deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf deserialize_unit deserialize_identifier
        deserialize_map
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            [Pair { value: Value::StandIn, .. }] => StandIn::default().deserialize_any(visitor),
            [pair] => {
                pair.untyped.set(true);
                pair.form.visit(pair.value.text(), visitor)
            }
            _ => self.deserialize_seq(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            [Pair { value: Value::Empty | Value::StandIn, .. }] => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        if let [Pair { value: Value::StandIn, .. }] = self.0 {
            return StandIn::default().deserialize_seq(visitor);
        }
        visitor.visit_seq(SeqDeserializer::new(self.0.chunks(1).map(Values)))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Misfit> {
        if let [Pair { value: Value::StandIn, .. }] = self.0 {
            return StandIn::default().deserialize_tuple(length, visitor);
        }
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match self.0 {
            [Pair { value: Value::StandIn, .. }] => StandIn::default().deserialize_enum(name, variants, visitor),
            values => one(values, |text| text.deserialize_enum(name, variants, visitor)),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_unit()
    }

    // A parameter is a text; the type's own message says what it wanted instead.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match self.0 {
            [Pair { value: Value::StandIn, .. }] => StandIn::default().deserialize_struct(name, fields, visitor),
            values => one(values, |text| text.deserialize_struct(name, fields, visitor)),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_unit(visitor)
    }
}

impl<'de> IntoDeserializer<'de, Misfit> for Values<'de, '_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}
