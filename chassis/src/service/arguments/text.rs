//! One text of a path or a query, read as whatever type is asked for.

use std::{cell::RefCell, fmt};

use serde::{
    de::{Deserializer, Expected, IntoDeserializer, Unexpected, Visitor},
    forward_to_deserialize_any,
};

thread_local! {
    /// See [`take_raised`].
    static RAISED: RefCell<Option<Buffered>> = const { RefCell::new(None) };
}

/// A buffered value that did not fit. It has lost its place.
#[derive(Debug, Clone)]
pub(super) struct Buffered {
    /// The value, as a text.
    pub(super) found: String,
    /// What would have fitted.
    pub(super) wanted: Wanted,
}

/// The form of value that a type takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Text,
    List,
    /// A number, a boolean, or anything else.
    Other,
}

/// The last misfit of a buffered value on this thread since it was taken, although reading may have gone on: serde swallows
/// such a misfit in the variants of an untagged enum and behind a flattened `Option`.
pub(super) fn take_raised() -> Option<Buffered> {
    RAISED.with(RefCell::take)
}

/// Why a path, a query or a stand-in could not be read.
#[derive(Debug)]
pub(super) struct Misfit {
    pub(super) message: String,
    /// The field that is missing or given twice: serde reports it beside the fields, not at one.
    pub(super) field: Option<&'static str>,
    /// Of a value that was buffered and so has lost its place.
    pub(super) buffered: Option<Buffered>,
}

impl Misfit {
    #[cold]
    fn buffered(kind: &str, unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match unexpected {
            Unexpected::Bool(value) => Some(value.to_string()),
            Unexpected::Unsigned(value) => Some(value.to_string()),
            Unexpected::Signed(value) => Some(value.to_string()),
            Unexpected::Float(value) => Some(value.to_string()),
            Unexpected::Str(value) => Some(value.to_owned()),
            _ => None,
        };
        let expected = expected.to_string();
        let wanted = match &*expected {
            text if text.contains("string") || text.contains("character") => Wanted::Text,
            text if text.contains("sequence") || text.contains("tuple") || text.contains("array") => Wanted::List,
            _ => Wanted::Other,
        };
        let buffered = found.map(|found| Buffered { found, wanted });
        if let Some(buffered) = &buffered {
            RAISED.with(|raised| *raised.borrow_mut() = Some(buffered.clone()));
        }
        Self { message: format!("invalid {kind}: {unexpected}, expected {expected}"), field: None, buffered }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Misfit {}

impl serde::de::Error for Misfit {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), field: None, buffered: None }
    }

    #[cold]
    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::buffered("type", unexpected, expected)
    }

    #[cold]
    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::buffered("value", unexpected, expected)
    }

    #[cold]
    fn missing_field(field: &'static str) -> Self {
        Self { message: "is missing".to_owned(), field: Some(field), buffered: None }
    }

    #[cold]
    fn duplicate_field(field: &'static str) -> Self {
        Self { message: "is given twice".to_owned(), field: Some(field), buffered: None }
    }
}

#[cold]
pub(super) fn expected(what: impl fmt::Display) -> Misfit {
    serde::de::Error::custom(format_args!("expected {what}"))
}

/// One text, read as whatever type is asked for. Where no type is asked for, as serde does for `flatten`, `tag` and
/// `untagged`, it is a text, or with `TYPED` a number or a boolean if it can be read as one.
pub(super) struct Text<'a, const TYPED: bool = false>(pub(super) &'a str);

/// Whether a text is a number or a boolean as JSON's writers write it, and nothing that only looks like one: `007` and `1.50`
/// are texts.
pub(super) fn is_plain_scalar(text: &str) -> bool {
    matches!(text, "true" | "false")
        || text.parse::<u64>().is_ok_and(|value| value.to_string() == text)
        || text.parse::<i64>().is_ok_and(|value| value.to_string() == text)
        || text.contains('.') && finite(text).is_some_and(|value| value.to_string() == text)
}

/// Returns whether a text can be read as a number or a boolean.
pub(super) fn is_scalar(text: &str) -> bool {
    matches!(text, "true" | "false") || finite(text).is_some()
}

fn finite(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

macro_rules! parsed {
    ($($method:ident $visit:ident $type:ty, $what:expr;)+) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
                match self.0.parse::<$type>() {
                    Ok(value) => visitor.$visit(value),
                    Err(_) => Err(expected($what)),
                }
            }
        )+
    };
}

macro_rules! float {
    ($($method:ident $visit:ident $type:ty;)+) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
                // Rust also reads "inf" and "NaN", and 1e999 as infinite; JSON knows none of them.
                match self.0.parse::<$type>() {
                    Ok(value) if value.is_finite() => visitor.$visit(value),
                    _ => Err(expected("a number")),
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

macro_rules! as_text {
    ($($method:ident)+) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
                visitor.visit_borrowed_str(self.0)
            }
        )+
    };
}

impl<'de, const TYPED: bool> Deserializer<'de> for Text<'de, TYPED> {
    type Error = Misfit;

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
        deserialize_char visit_char char, "one character";
    }

    float! {
        deserialize_f32 visit_f32 f32;
        deserialize_f64 visit_f64 f64;
    }

    as_text! {
        deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf deserialize_unit deserialize_seq
        deserialize_map deserialize_identifier
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let text = self.0;
        if !TYPED {
            return visitor.visit_borrowed_str(text);
        }
        match (text.parse(), text.parse(), text.parse(), finite(text)) {
            (Ok(value), ..) => visitor.visit_bool(value),
            (_, Ok(value), ..) => visitor.visit_u64(value),
            (_, _, Ok(value), _) => visitor.visit_i64(value),
            (.., Some(value)) => visitor.visit_f64(value),
            _ => visitor.visit_borrowed_str(text),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_unit()
    }
}

impl<'de, const TYPED: bool> IntoDeserializer<'de, Misfit> for Text<'de, TYPED> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// An empty body or segment: a value only for an `Option`.
pub(super) struct Nothing;

impl<'de> Deserializer<'de> for Nothing {
    type Error = Misfit;

    #[cold]
    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Misfit> {
        Err(serde::de::Error::custom("is empty"))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_none()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct enum identifier ignored_any
    }
}
