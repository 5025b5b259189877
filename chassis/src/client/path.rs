//! From a path template and values to the path of a request.
//!
//! A value is written as one segment: RFC 3986 `pchar` as it is, every other byte percent-encoded, so that no value can
//! become a second segment, a query or a fragment.

use std::{borrow::Cow, fmt};

use serde::{
    Serialize, Serializer,
    ser::{Error as _, Impossible},
};

/// The value of a parameter, as plain text.
pub(super) fn text<T: Serialize + ?Sized>(value: &T) -> Result<String, NotOneValue> {
    value.serialize(OneValue)
}

/// The template with its parameters filled in. The message says which parameter cannot be written, and why.
pub(super) fn fill(template: &str, parameters: &[(Cow<'static, str>, String)]) -> Result<String, String> {
    if !template.starts_with('/') {
        return Err(format!(
            "found the path {template:?}, expected one that starts with a slash: write \"/{template}\""
        ));
    }
    let mut path = String::with_capacity(template.len() + 16);
    let mut used = 0;
    for segment in template[1..].split('/') {
        path.push('/');
        let Some(name) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
            path.push_str(segment);
            continue;
        };
        let (name, is_rest) = name.strip_prefix('*').map_or((name, false), |name| (name, true));
        let (_, value) = parameters
            .iter()
            .find(|(key, _)| key == name)
            .ok_or_else(|| format!("the path {template:?} has no value for {segment}: add `.path({name:?}, …)`"))?;
        used += 1;
        if is_rest {
            for (at, piece) in value.split('/').enumerate() {
                if at > 0 {
                    path.push('/');
                }
                push_segment(&mut path, name, piece)?;
            }
        } else {
            push_segment(&mut path, name, value)?;
        }
    }
    if used < parameters.len() {
        let names = parameters.iter().map(|(name, _)| &**name).collect::<Vec<_>>().join(", ");
        return Err(format!("the path {template:?} does not name every parameter once; it was given: {names}"));
    }
    Ok(path)
}

fn push_segment(path: &mut String, name: &str, text: &str) -> Result<(), String> {
    match text {
        "" => return Err(format!("path parameter {name:?}: found an empty text, and a segment must not be empty")),
        // Percent-encoded they mean the same to many a proxy (RFC 3986 §6.2.2), and the request would end elsewhere.
        "." | ".." => {
            return Err(format!("path parameter {name:?}: found {text:?}, which leads to another path"));
        }
        _ => {}
    }
    for byte in text.bytes() {
        if is_pchar(byte) {
            path.push(char::from(byte));
        } else {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            path.push('%');
            path.push(char::from(HEX[usize::from(byte >> 4)]));
            path.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    Ok(())
}

/// RFC 3986 §3.3: unreserved, sub-delims, `:` and `@`.
fn is_pchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)
}

/// Why a value cannot be a parameter of a path.
#[derive(Debug)]
pub(super) struct NotOneValue(String);

impl fmt::Display for NotOneValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotOneValue {}

impl serde::ser::Error for NotOneValue {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Writes what the server's side reads back: a text, a number, a boolean, a unit variant, or a newtype of one.
struct OneValue;

fn found<T>(what: &str) -> Result<T, NotOneValue> {
    Err(NotOneValue::custom(format_args!("found {what}, expected one value: a text, a number or a boolean")))
}

macro_rules! displayed {
    ($($method:ident $type:ty;)+) => {
        $(
            fn $method(self, value: $type) -> Result<String, NotOneValue> {
                Ok(value.to_string())
            }
        )+
    };
}

impl Serializer for OneValue {
    type Ok = String;
    type Error = NotOneValue;
    type SerializeSeq = Impossible<String, NotOneValue>;
    type SerializeTuple = Impossible<String, NotOneValue>;
    type SerializeTupleStruct = Impossible<String, NotOneValue>;
    type SerializeTupleVariant = Impossible<String, NotOneValue>;
    type SerializeMap = Impossible<String, NotOneValue>;
    type SerializeStruct = Impossible<String, NotOneValue>;
    type SerializeStructVariant = Impossible<String, NotOneValue>;

    displayed! {
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

    fn serialize_bytes(self, _: &[u8]) -> Result<String, NotOneValue> {
        found("bytes")
    }

    fn serialize_none(self) -> Result<String, NotOneValue> {
        found("nothing")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<String, NotOneValue> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<String, NotOneValue> {
        found("nothing")
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<String, NotOneValue> {
        found("nothing")
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<String, NotOneValue> {
        Ok(variant.to_owned())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<String, NotOneValue> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<String, NotOneValue> {
        found("a variant with content")
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, NotOneValue> {
        found("a list")
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, NotOneValue> {
        found("a tuple")
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, NotOneValue> {
        found("a tuple")
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, NotOneValue> {
        found("a variant with content")
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, NotOneValue> {
        found("a map")
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, NotOneValue> {
        found("a struct")
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, NotOneValue> {
        found("a variant with content")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(template: &str, values: &[(&'static str, &str)]) -> Result<String, String> {
        let values: Vec<_> = values.iter().map(|(name, value)| (Cow::Borrowed(*name), (*value).to_owned())).collect();
        fill(template, &values)
    }

    #[test]
    fn a_value_stays_one_segment_whatever_is_in_it() {
        for (value, written) in [
            ("7", "7"),
            ("a/b", "a%2Fb"),
            ("100%", "100%25"),
            ("a b", "a%20b"),
            ("größe", "gr%C3%B6%C3%9Fe"),
            ("?x#y", "%3Fx%23y"),
            ("-._~!$&'()*+,;=:@", "-._~!$&'()*+,;=:@"),
            ("...", "..."),
            ("\0\n\"<>[]\\^`{|}", "%00%0A%22%3C%3E%5B%5D%5C%5E%60%7B%7C%7D"),
        ] {
            assert_eq!(
                path("/orders/{id}/items", &[("id", value)]),
                Ok(format!("/orders/{written}/items")),
                "{value:?}"
            );
        }
    }

    #[test]
    fn a_segment_that_leads_elsewhere_is_refused() {
        for value in ["", ".", ".."] {
            let message = path("/orders/{id}", &[("id", value)]).unwrap_err();
            assert!(message.starts_with("path parameter \"id\": found "), "{message}");
        }
        assert!(path("/files/{*path}", &[("path", "a/../b")]).is_err());
        assert!(path("/files/{*path}", &[("path", "a//b")]).is_err());
    }

    #[test]
    fn the_rest_of_a_path_keeps_its_slashes() {
        assert_eq!(path("/files/{*path}", &[("path", "a/b c/d")]), Ok("/files/a/b%20c/d".to_owned()));
    }

    #[test]
    fn a_template_and_its_values_belong_together() {
        let missing = path("/orders/{id}", &[]).unwrap_err();
        assert_eq!(missing, r#"the path "/orders/{id}" has no value for {id}: add `.path("id", …)`"#);
        assert!(path("/orders", &[("id", "7")]).is_err());
        assert!(path("/orders/{id}", &[("id", "7"), ("id", "8")]).is_err());
        assert!(path("orders", &[]).is_err());
        assert_eq!(path("/", &[]), Ok("/".to_owned()));
    }

    #[test]
    fn one_value_is_a_text_a_number_a_boolean_or_a_unit_variant() {
        #[derive(Serialize)]
        struct Id(u64);
        #[derive(Serialize)]
        #[serde(rename_all = "lowercase")]
        enum Color {
            Red,
            Mixed(u8),
        }
        assert_eq!(text(&Id(7)).unwrap(), "7");
        assert_eq!(text(&Color::Red).unwrap(), "red");
        assert_eq!(text(&Some("x")).unwrap(), "x");
        assert_eq!(text(&-1.5f64).unwrap(), "-1.5");
        assert_eq!(text("é").unwrap(), "é");
        assert_eq!(text(&true).unwrap(), "true");
        for message in [
            text(&Color::Mixed(1)).unwrap_err(),
            text(&[1, 2]).unwrap_err(),
            text(&None::<u8>).unwrap_err(),
            text(&()).unwrap_err(),
        ] {
            assert!(message.to_string().contains("expected one value"), "{message}");
        }
    }
}
