//! The document as text, in one order whatever the order of the map underneath: `serde_json` keeps keys sorted, or as they
//! came when any crate of the build asks for that, and a committed document must not change with it.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// The keys whose place a reader expects; the others follow in alphabetical order.
const ORDER: [&str; 49] = [
    "openapi",
    "info",
    "servers",
    "$ref",
    "name",
    "in",
    "type",
    "format",
    "title",
    "version",
    "tags",
    "summary",
    "description",
    "operationId",
    "deprecated",
    "required",
    "parameters",
    "requestBody",
    "responses",
    "get",
    "put",
    "post",
    "delete",
    "options",
    "head",
    "patch",
    "trace",
    "paths",
    "headers",
    "content",
    "schema",
    "const",
    "enum",
    "default",
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "allOf",
    "oneOf",
    "anyOf",
    "properties",
    "additionalProperties",
    "components",
];

/// What the keys of a map are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keys {
    /// Words of OpenAPI and JSON Schema.
    Words,
    /// Names that the service gave, each with an object of words.
    Names,
    /// A value to be taken as it is.
    Data,
}

impl Keys {
    /// What the keys of the map under `key` are.
    fn under(self, key: &str) -> Self {
        match (self, key) {
            (Self::Data, _) => Self::Data,
            (Self::Names, _) => Self::Words,
            (
                Self::Words,
                "paths" | "properties" | "patternProperties" | "dependentSchemas" | "$defs" | "responses" | "headers"
                | "content" | "schemas" | "examples" | "mapping",
            ) => Self::Names,
            (Self::Words, "default" | "const" | "enum" | "example") => Self::Data,
            (Self::Words, _) => Self::Words,
        }
    }
}

/// The document, indented by two spaces, with a line break at its end.
pub(super) fn render(document: &Value) -> String {
    let mut text = String::new();
    write(&mut text, document, Keys::Words, 0);
    text.push('\n');
    text
}

fn write(text: &mut String, value: &Value, keys: Keys, depth: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            let entries = sorted(map, keys);
            block(text, ['{', '}'], depth, entries.len(), |text, index| {
                let (key, value) = entries[index];
                // A string's own form is JSON's.
                let _ = write!(text, "{}: ", Value::from(key.as_str()));
                write(text, value, keys.under(key), depth + 1);
            });
        }
        Value::Array(values) if !values.is_empty() => {
            block(text, ['[', ']'], depth, values.len(), |text, index| write(text, &values[index], keys, depth + 1));
        }
        value => {
            let _ = write!(text, "{value}");
        }
    }
}

fn block(text: &mut String, marks: [char; 2], depth: usize, count: usize, each: impl Fn(&mut String, usize)) {
    text.push(marks[0]);
    for index in 0..count {
        text.push_str(if index == 0 { "\n" } else { ",\n" });
        text.push_str(&"  ".repeat(depth + 1));
        each(text, index);
    }
    text.push('\n');
    text.push_str(&"  ".repeat(depth));
    text.push(marks[1]);
}

fn sorted(map: &Map<String, Value>, keys: Keys) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = map.iter().collect();
    let place = |key: &str| match keys {
        Keys::Words => ORDER.iter().position(|word| *word == key).unwrap_or(ORDER.len()),
        Keys::Names | Keys::Data => 0,
    };
    entries.sort_by(|(left, _), (right, _)| place(left).cmp(&place(right)).then_with(|| left.cmp(right)));
    entries
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::render;

    #[test]
    fn words_stand_in_a_readers_order_and_names_in_the_alphabets() {
        let document = json!({
            "components": {"schemas": {"Order": {"properties": {"type": {"type": "string"}, "name": {}, "id": {}}}}},
            "paths": {"/b": {"post": {}, "get": {}}, "/a": {}},
            "openapi": "3.1.0",
        });
        let text = render(&document);
        let place = |word: &str| text.find(word).unwrap_or_else(|| panic!("{word} in {text}"));
        let order = [
            "\"openapi\"",
            "\"/a\"",
            "\"/b\"",
            "\"get\"",
            "\"post\"",
            "\"components\"",
            "\"id\"",
            "\"name\"",
            "\"type\": {",
        ];
        assert!(order.map(place).is_sorted(), "{text}");
        let again: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(again, document);
    }

    #[test]
    fn data_is_not_taken_for_words() {
        let text = render(&json!({"default": {"type": 1, "b": 2}}));
        assert!(text.find("\"b\"") < text.find("\"type\""), "{text}");
    }
}
