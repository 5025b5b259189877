//! Every mistake of a JSON body, with its place. Only a request that is refused pays for it.
//!
//! serde ends at the first mistake. So the body is read again for each, with the values that did not fit replaced by
//! stand-ins; when a stand-in does not fit either (a type with rules of its own), what was found so far is told.

use std::fmt;

use serde::{
    Deserialize,
    de::{
        DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
        Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_path_to_error::{Path, Segment, Track};

use super::{
    by_name::{ByName, list_for_struct},
    query::MAX_MISTAKES,
    stand_in::StandIn,
    text::{Misfit, Text},
};
use crate::problem::push_step;

/// A larger body is told its first mistake only: each further one costs another reading.
const MAX_BYTES: usize = 64 << 10;

/// What serde_json does not say of an enum.
const EXPECTED_VARIANT: &str = "expected a variant: a text, or an object with one member";

/// From here on a tree holds whole numbers as floating point: 2^63.
const FIRST_INEXACT: f64 = 9_223_372_036_854_775_808.0;

/// JSON pointers (RFC 6901) and messages; the first is that of `error`.
pub(super) fn of<T: for<'de> Deserialize<'de>>(text: &str, error: &serde_json::Error) -> Vec<(String, String)> {
    let told = error.to_string();
    let message = match told.rsplit_once(" at line ").map_or(&*told, |(message, _)| message) {
        "expected value" => EXPECTED_VARIANT.to_owned(),
        message => message.to_owned(),
    };
    let mut track = Track::new();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let _ = T::deserialize(serde_path_to_error::Deserializer::new(ByName(&mut deserializer), &mut track));
    let mut steps = steps(&track.path());
    // serde reports these at the object, an unknown field at the field.
    let (what, rest) = message.split_once(" field `").unwrap_or_default();
    if let ("missing" | "duplicate", Some((field, _))) = (what, rest.split_once('`')) {
        steps.push(field.to_owned());
    }
    let mut mistakes = vec![(pointer(&steps), message.clone())];
    let Some(mut tree) = (text.len() <= MAX_BYTES).then(|| serde_json::from_str::<Tree>(text).ok()).flatten() else {
        return mistakes;
    };
    let mut unknown = message.starts_with("unknown field");
    while mistakes.len() < MAX_MISTAKES && tree.mend(&steps, unknown) {
        let mut track = Track::new();
        let Err(misfit) = T::deserialize(serde_path_to_error::Deserializer::new(&tree, &mut track)) else { break };
        steps = self::steps(&track.path());
        steps.extend(misfit.field.map(str::to_owned));
        unknown = misfit.message.starts_with("unknown field");
        let pointer = pointer(&steps);
        if !tree.is_exact(&steps) || mistakes.iter().any(|(other, _)| *other == pointer) {
            break;
        }
        mistakes.push((pointer, misfit.message));
    }
    mistakes
}

fn steps(path: &Path) -> Vec<String> {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(index.to_string()),
            Segment::Map { key } | Segment::Enum { variant: key } => Some(key.clone()),
            Segment::Unknown => None,
        })
        .collect()
}

fn pointer(steps: &[String]) -> String {
    let mut pointer = String::new();
    for step in steps {
        push_step(&mut pointer, step);
    }
    pointer
}

/// A JSON value that keeps names given twice, and may hold stand-ins.
enum Tree {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
    StandIn,
}

impl Tree {
    /// Replaces what is at the place, or takes it away; false when there is no such place.
    fn mend(&mut self, steps: &[String], take_away: bool) -> bool {
        let Some((step, rest)) = steps.split_first() else {
            *self = Self::StandIn;
            return true;
        };
        match self {
            Self::List(items) => step.parse().ok().and_then(|index: usize| items.get_mut(index)),
            Self::Object(members) if rest.is_empty() => {
                members.retain(|(name, _)| name != step);
                if !take_away {
                    members.push((step.clone(), Self::StandIn));
                }
                return true;
            }
            Self::Object(members) => members.iter_mut().find(|(name, _)| name == step).map(|(_, value)| value),
            _ => None,
        }
        .is_some_and(|inner| inner.mend(rest, take_away))
    }

    /// Whether what is at the place is what was sent: no stand-in, and no whole number that lost digits on its way here.
    fn is_exact(&self, steps: &[String]) -> bool {
        let inner = match (self, steps.split_first()) {
            (Self::StandIn, _) => return false,
            (Self::Number(number), None) => {
                return number.as_f64().is_none_or(|value| value.abs() < FIRST_INEXACT) || !number.is_f64();
            }
            (Self::List(items), Some((step, rest))) => {
                step.parse().ok().and_then(|index: usize| items.get(index)).map(|inner| (inner, rest))
            }
            (Self::Object(members), Some((step, rest))) => {
                members.iter().find(|(name, _)| name == step).map(|(_, inner)| (inner, rest))
            }
            _ => None,
        };
        inner.is_none_or(|(inner, rest)| inner.is_exact(rest))
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Build;

        impl<'de> Visitor<'de> for Build {
            type Value = Tree;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
                Ok(Tree::Number(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
                Ok(Tree::Number(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
                Ok(serde_json::Number::from_f64(value).map_or(Tree::Null, Tree::Number))
            }

            fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
                Ok(Tree::Text(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Tree::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Tree, A::Error> {
                let mut object = Vec::new();
                while let Some(member) = members.next_entry()? {
                    object.push(member);
                }
                Ok(Tree::Object(object))
            }
        }

        deserializer.deserialize_any(Build)
    }
}

impl<'de> IntoDeserializer<'de, Misfit> for &'de Tree {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! or_stand_in {
    ($($method:ident)+) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
                match self {
                    Tree::StandIn => StandIn::default().$method(visitor),
                    _ => self.deserialize_any(visitor),
                }
            }
        )+
    };
}

impl<'de> Deserializer<'de> for &'de Tree {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self {
            Tree::Null => visitor.visit_unit(),
            Tree::Bool(value) => visitor.visit_bool(*value),
            Tree::Number(value) => value.deserialize_any(visitor).map_err(Misfit::custom),
            Tree::Text(value) => visitor.visit_borrowed_str(value),
            Tree::List(items) => {
                let mut items = SeqDeserializer::new(items.iter());
                let value = visitor.visit_seq(&mut items)?;
                items.end()?;
                Ok(value)
            }
            Tree::Object(members) => visitor
                .visit_map(MapDeserializer::new(members.iter().map(|(name, value)| (Text::<false>(name), value)))),
            Tree::StandIn => StandIn::default().deserialize_any(visitor),
        }
    }

    or_stand_in! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128 deserialize_u8
        deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64 deserialize_char
        deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf deserialize_unit deserialize_seq
        deserialize_map deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self {
            Tree::Null | Tree::StandIn => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Misfit> {
        match self {
            Tree::StandIn => StandIn::default().deserialize_tuple(length, visitor),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match self {
            Tree::StandIn => StandIn::default().deserialize_struct(name, fields, visitor),
            Tree::List(_) => Err(list_for_struct()),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match self {
            Tree::StandIn => StandIn::default().deserialize_enum(name, variants, visitor),
            Tree::Text(name) => visitor.visit_enum((&**name).into_deserializer()),
            Tree::Object(members) => match members.as_slice() {
                [(name, content)] => visitor.visit_enum(Variant { name, content }),
                _ => Err(Misfit::custom(EXPECTED_VARIANT)),
            },
            _ => Err(Misfit::custom(EXPECTED_VARIANT)),
        }
    }

    forward_to_deserialize_any! { unit_struct }
}

/// `{"name": content}`
struct Variant<'a> {
    name: &'a str,
    content: &'a Tree,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Misfit;
    type Variant = &'de Tree;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, &'de Tree), Misfit> {
        Ok((seed.deserialize(self.name.into_deserializer())?, self.content))
    }
}

impl<'de> VariantAccess<'de> for &'de Tree {
    type Error = Misfit;

    fn unit_variant(self) -> Result<(), Misfit> {
        <()>::deserialize(self)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Misfit> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_struct("", fields, visitor)
    }
}
