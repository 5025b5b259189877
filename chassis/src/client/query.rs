//! From a struct or a map to a query that the server's side reads back: a list repeats its name, `None` is left out.

use serde::{
    Serialize, Serializer,
    ser::{Error as _, Impossible, SerializeMap, SerializeSeq, SerializeStruct, SerializeTuple, SerializeTupleStruct},
};

use super::path::{self, NotOneValue};

/// The query as it is sent, percent-encoded.
pub(super) fn text<T: Serialize + ?Sized>(query: &T) -> Result<String, NotOneValue> {
    let pairs = query.serialize(Parameters(Vec::new()))?;
    serde_urlencoded::to_string(pairs).map_err(NotOneValue::custom)
}

type Pairs = Vec<(String, String)>;

fn found<T>(what: &str) -> Result<T, NotOneValue> {
    Err(NotOneValue::custom(format_args!("found {what}, expected a struct, a map, or a list of names with values")))
}

fn misfit<T>(what: &str) -> Result<T, NotOneValue> {
    Err(NotOneValue::custom(format_args!("found {what}, expected a text, a number, a boolean, or a list of them")))
}

fn push<T: Serialize + ?Sized>(pairs: &mut Pairs, name: &str, value: &T) -> Result<(), NotOneValue> {
    let values = value.serialize(Values(Vec::new()));
    let values = values.map_err(|error| NotOneValue::custom(format_args!("parameter {name:?}: {error}")))?;
    pairs.extend(values.into_iter().map(|value| (name.to_owned(), value)));
    Ok(())
}

/// Collects the parameters.
struct Parameters(Pairs);

/// Collects the texts of one parameter's values, or of a name with its values.
struct Values(Vec<String>);

macro_rules! refused {
    ($ok:ty, $found:ident; $($method:ident($($type:ty),*) $what:literal;)+) => {
        $(
            fn $method(self, $(_: $type),*) -> Result<$ok, NotOneValue> {
                $found($what)
            }
        )+
    };
}

macro_rules! written {
    ($($method:ident $type:ty;)+) => {
        $(
            fn $method(mut self, value: $type) -> Result<Vec<String>, NotOneValue> {
                self.0.push(path::text(&value)?);
                Ok(self.0)
            }
        )+
    };
}

macro_rules! variants_refused {
    ($ok:ty, $found:ident) => {
        type SerializeTupleVariant = Impossible<$ok, NotOneValue>;
        type SerializeStructVariant = Impossible<$ok, NotOneValue>;

        fn serialize_newtype_struct<T: Serialize + ?Sized>(
            self,
            _: &'static str,
            value: &T,
        ) -> Result<$ok, NotOneValue> {
            value.serialize(self)
        }

        fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<$ok, NotOneValue> {
            value.serialize(self)
        }

        fn serialize_none(self) -> Result<$ok, NotOneValue> {
            Ok(self.0)
        }

        fn serialize_newtype_variant<T: Serialize + ?Sized>(
            self,
            _: &'static str,
            _: u32,
            _: &'static str,
            _: &T,
        ) -> Result<$ok, NotOneValue> {
            $found("a variant with content")
        }

        fn serialize_tuple_variant(
            self,
            _: &'static str,
            _: u32,
            _: &'static str,
            _: usize,
        ) -> Result<Self::SerializeTupleVariant, NotOneValue> {
            $found("a variant with content")
        }

        fn serialize_struct_variant(
            self,
            _: &'static str,
            _: u32,
            _: &'static str,
            _: usize,
        ) -> Result<Self::SerializeStructVariant, NotOneValue> {
            $found("a variant with content")
        }
    };
}

impl Serializer for Parameters {
    type Ok = Pairs;
    type Error = NotOneValue;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Impossible<Pairs, NotOneValue>;
    type SerializeMap = Entries;
    type SerializeStruct = Self;

    variants_refused!(Pairs, found);

    refused! {
        Pairs, found;
        serialize_bool(bool) "a boolean";
        serialize_i8(i8) "a number";
        serialize_i16(i16) "a number";
        serialize_i32(i32) "a number";
        serialize_i64(i64) "a number";
        serialize_u8(u8) "a number";
        serialize_u16(u16) "a number";
        serialize_u32(u32) "a number";
        serialize_u64(u64) "a number";
        serialize_f32(f32) "a number";
        serialize_f64(f64) "a number";
        serialize_char(char) "a text";
        serialize_str(&str) "a text";
        serialize_bytes(&[u8]) "bytes";
        serialize_unit_variant(&'static str, u32, &'static str) "a variant";
    }

    fn serialize_unit(self) -> Result<Pairs, NotOneValue> {
        Ok(self.0)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Pairs, NotOneValue> {
        Ok(self.0)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, NotOneValue> {
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, NotOneValue> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, NotOneValue> {
        found("a tuple")
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Entries, NotOneValue> {
        Ok(Entries { pairs: self.0, name: String::new() })
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, NotOneValue> {
        Ok(self)
    }
}

impl SerializeStruct for Parameters {
    type Ok = Pairs;
    type Error = NotOneValue;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), NotOneValue> {
        push(&mut self.0, name, value)
    }

    fn end(self) -> Result<Pairs, NotOneValue> {
        Ok(self.0)
    }
}

/// A list of names with values, which may have a name twice.
impl SerializeSeq for Parameters {
    type Ok = Pairs;
    type Error = NotOneValue;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), NotOneValue> {
        if path::text(element).is_ok() {
            return found("a value without a name");
        }
        let mut texts = element.serialize(Values(Vec::new()))?.into_iter();
        let Some(name) = texts.next() else { return found("nothing in place of a name") };
        self.0.extend(texts.map(|text| (name.clone(), text)));
        Ok(())
    }

    fn end(self) -> Result<Pairs, NotOneValue> {
        Ok(self.0)
    }
}

impl SerializeTuple for Parameters {
    type Ok = Pairs;
    type Error = NotOneValue;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), NotOneValue> {
        SerializeSeq::serialize_element(self, element)
    }

    fn end(self) -> Result<Pairs, NotOneValue> {
        Ok(self.0)
    }
}

/// The parameters of a map.
struct Entries {
    pairs: Pairs,
    name: String,
}

impl SerializeMap for Entries {
    type Ok = Pairs;
    type Error = NotOneValue;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), NotOneValue> {
        self.name = path::text(key)?;
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotOneValue> {
        push(&mut self.pairs, &self.name, value)
    }

    fn end(self) -> Result<Pairs, NotOneValue> {
        Ok(self.pairs)
    }
}

impl Serializer for Values {
    type Ok = Vec<String>;
    type Error = NotOneValue;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeMap = Impossible<Vec<String>, NotOneValue>;
    type SerializeStruct = Impossible<Vec<String>, NotOneValue>;

    variants_refused!(Vec<String>, misfit);

    written! {
        serialize_bool bool;
        serialize_i8 i8;
        serialize_i16 i16;
        serialize_i32 i32;
        serialize_i64 i64;
        serialize_i128 i128;
        serialize_u8 u8;
        serialize_u16 u16;
        serialize_u32 u32;
        serialize_u64 u64;
        serialize_u128 u128;
        serialize_f32 f32;
        serialize_f64 f64;
        serialize_char char;
        serialize_str &str;
    }

    refused! {
        Vec<String>, misfit;
        serialize_bytes(&[u8]) "bytes";
        serialize_unit() "a unit";
        serialize_unit_struct(&'static str) "a unit";
    }

    fn serialize_unit_variant(
        mut self,
        _: &'static str,
        _: u32,
        name: &'static str,
    ) -> Result<Vec<String>, NotOneValue> {
        self.0.push(name.to_owned());
        Ok(self.0)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, NotOneValue> {
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, NotOneValue> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, NotOneValue> {
        Ok(self)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, NotOneValue> {
        misfit("a map")
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, NotOneValue> {
        misfit("a struct")
    }
}

impl SerializeSeq for Values {
    type Ok = Vec<String>;
    type Error = NotOneValue;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), NotOneValue> {
        self.0.push(path::text(element)?);
        Ok(())
    }

    fn end(self) -> Result<Vec<String>, NotOneValue> {
        Ok(self.0)
    }
}

/// A name with its values is a tuple.
impl SerializeTuple for Values {
    type Ok = Vec<String>;
    type Error = NotOneValue;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), NotOneValue> {
        self.0.extend(element.serialize(Values(Vec::new()))?);
        Ok(())
    }

    fn end(self) -> Result<Vec<String>, NotOneValue> {
        Ok(self.0)
    }
}

impl SerializeTupleStruct for Values {
    type Ok = Vec<String>;
    type Error = NotOneValue;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), NotOneValue> {
        SerializeTuple::serialize_element(self, element)
    }

    fn end(self) -> Result<Vec<String>, NotOneValue> {
        Ok(self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use axum::extract::FromRequest;
    use serde::Deserialize;

    use super::*;
    use crate::service::Arguments;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum State {
        Open,
        Sent,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Filter {
        customer: String,
        limit: Option<u32>,
        after: Option<String>,
        state: Vec<State>,
        price: f32,
    }

    #[tokio::test]
    async fn the_server_reads_what_is_written() {
        for filter in [
            Filter {
                customer: "a&b=c d+é".to_owned(),
                limit: Some(7),
                after: None,
                state: vec![State::Open, State::Sent],
                price: 0.1,
            },
            Filter {
                customer: String::new(),
                limit: None,
                after: Some("x".to_owned()),
                state: vec![State::Sent],
                price: -2.0,
            },
        ] {
            let query = text(&filter).unwrap();
            let request = http::Request::get(format!("/?{query}")).body(axum::body::Body::empty()).unwrap();
            let arguments = Arguments::from_request(request, &()).await.unwrap();
            assert_eq!(arguments.query::<Filter>().unwrap(), filter, "{query}");
        }
    }

    #[test]
    fn a_list_repeats_its_name_and_nothing_is_left_out() {
        let map = BTreeMap::from([("a", Some(vec![1, 2])), ("b", None), ("c", Some(vec![]))]);
        assert_eq!(text(&map).unwrap(), "a=1&a=2");
        assert_eq!(text(&Some(map)).unwrap(), "a=1&a=2");
        assert_eq!(text(&[("a", "x y"), ("a", "z")]).unwrap(), "a=x+y&a=z");
        assert_eq!(text(&vec![("a", None), ("b", Some(1))]).unwrap(), "b=1");
        assert_eq!(text(&None::<Filter>).unwrap(), "");
        assert_eq!(text(&()).unwrap(), "");
    }

    #[test]
    fn what_no_query_can_say_is_refused() {
        let nested = text(&BTreeMap::from([("a", BTreeMap::from([("b", 1)]))])).unwrap_err().to_string();
        assert!(nested.starts_with("parameter \"a\": found a map, expected a text"), "{nested}");
        assert!(text(&BTreeMap::from([("a", vec![vec![1]])])).is_err());
        assert!(text(&BTreeMap::from([("a", vec![None::<u8>])])).is_err());
        for alone in [text("a"), text(&7), text(&["a", "b"])] {
            assert!(alone.unwrap_err().to_string().contains("expected a struct, a map"));
        }
    }
}
