//! A value that is used and never shown.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What is printed in place of a secret.
pub(crate) const MASK: &str = "***";

/// A value that is never printed and never serialized.
///
/// In a configuration it is plain text, `{ file = "/run/secrets/password" }` (one trailing newline is cut off) or
/// `{ env = "DB_PASSWORD" }`. [`Schema::load`](super::Schema::load) reads the file or the variable; a value that is
/// deserialized by other means has to be the text itself.
///
/// ```
/// let password = chassis::config::Secret::new("hunter2".to_owned());
/// assert_eq!(format!("{password} {password:?}"), "*** ***");
/// assert_eq!(password.expose(), "hunter2");
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Makes a secret of a value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. The place that calls this is responsible for it.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl<T> Serialize for Secret<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Secret<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self)
    }
}

impl<T> schemars::JsonSchema for Secret<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let from = |name: &str| {
            serde_json::json!({
                "type": "object", "properties": { name: { "type": "string" } }, "required": [name], "additionalProperties": false
            })
        };
        schemars::json_schema!({ "format": "secret", "anyOf": [{ "type": "string" }, from("file"), from("env")] })
    }
}
