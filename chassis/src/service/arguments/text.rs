//! One text of a path or a query, read as whatever type is asked for.

use std::fmt;

use serde::{
    de::{Deserializer, IntoDeserializer, Visitor},
    forward_to_deserialize_any,
};

/// Why a path, a query or a stand-in could not be read.
#[derive(Debug)]
pub(super) struct Misfit {
    pub(super) message: String,
    /// The field that is missing or given twice: serde reports it beside the fields, not at one.
    pub(super) field: Option<&'static str>,
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
        Self { message: message.to_string(), field: None }
    }

    #[cold]
    fn missing_field(field: &'static str) -> Self {
        Self { message: "is missing".to_owned(), field: Some(field) }
    }

    #[cold]
    fn duplicate_field(field: &'static str) -> Self {
        Self { message: "is given twice".to_owned(), field: Some(field) }
    }
}

#[cold]
pub(super) fn expected(what: impl fmt::Display) -> Misfit {
    serde::de::Error::custom(format_args!("expected {what}"))
}

/// One text, read as whatever type is asked for.
pub(super) struct Text<'a>(pub(super) &'a str);

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

impl<'de> Deserializer<'de> for Text<'de> {
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

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
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

    forward_to_deserialize_any! {
        str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
    }
}

impl<'de> IntoDeserializer<'de, Misfit> for Text<'de> {
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
