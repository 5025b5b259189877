//! Text from variables and the command line, which gets its type from the schema.

use figment::value::{Empty, Num, Tag, Value};

use super::{
    schema::{Kind, Node},
    source::toml_value,
};

/// Text from a variable or the command line as the type that the schema wants; none when it cannot be, and stays text.
pub(crate) fn from_text(node: &Node, text: &str, tag: Tag) -> Option<Value> {
    let trimmed = text.trim();
    if node.nullable && trimmed.is_empty() {
        return Some(Value::Empty(tag, Empty::None));
    }
    match &node.kind {
        Kind::Bool => trimmed.parse().ok().map(|truth| Value::Bool(tag, truth)),
        Kind::Integer(_) => {
            let number = trimmed.parse().map(Num::I64).or_else(|_| trimmed.parse().map(Num::U64));
            number.ok().map(|number| Value::Num(tag, number))
        }
        Kind::Float(_) => trimmed.parse().ok().map(|number| Value::Num(tag, Num::F64(number))),
        Kind::List(_) => {
            Some(Value::Array(tag, items(trimmed).into_iter().map(|item| Value::String(tag, item)).collect()))
        }
        Kind::Secret if is_inline_table(trimmed) => toml_value(trimmed).map(|value| retag(value, tag)),
        Kind::Table(_) if trimmed.starts_with('{') => toml_value(trimmed).map(|value| retag(value, tag)),
        _ => None,
    }
}

/// Returns whether the text of a secret is a table of TOML. Any other text in braces is the secret itself.
fn is_inline_table(text: &str) -> bool {
    text.starts_with('{') && text.ends_with('}') && matches!(toml_value(text), Some(Value::Dict(..)))
}

/// Returns whether the text of a secret was meant to be `{ file = "…" }` or `{ env = "…" }` and cannot be read as such.
pub(crate) fn is_broken_reference(text: &str) -> bool {
    let Some(inner) = text.trim().strip_prefix('{') else { return false };
    ["file", "env"].iter().any(|key| {
        let rest = inner.trim_start().trim_start_matches(['"', '\'']).strip_prefix(key);
        rest.is_some_and(|rest| rest.trim_start_matches(['"', '\'']).trim_start().starts_with('='))
    })
}

/// The value with the tag of the text it was parsed from, so that it keeps its origin.
fn retag(value: Value, tag: Tag) -> Value {
    match value {
        Value::String(_, text) => Value::String(tag, text),
        Value::Char(_, c) => Value::Char(tag, c),
        Value::Bool(_, truth) => Value::Bool(tag, truth),
        Value::Num(_, number) => Value::Num(tag, number),
        Value::Empty(_, empty) => Value::Empty(tag, empty),
        Value::Dict(_, dict) => {
            Value::Dict(tag, dict.into_iter().map(|(key, value)| (key, retag(value, tag))).collect())
        }
        Value::Array(_, items) => Value::Array(tag, items.into_iter().map(|value| retag(value, tag)).collect()),
    }
}

/// The items of a list written as `a,b` or `[a, "b"]`.
fn items(text: &str) -> Vec<String> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let (mut items, mut item, mut quote, mut depth) = (Vec::new(), String::new(), None, 0_usize);
    for c in inner.chars() {
        match c {
            '"' | '\'' if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() && (depth > 0 || item.trim().is_empty()) => quote = Some(c),
            '[' | '{' if quote.is_none() => depth += 1,
            ']' | '}' if quote.is_none() => depth = depth.saturating_sub(1),
            ',' if quote.is_none() && depth == 0 => {
                items.push(std::mem::take(&mut item));
                continue;
            }
            _ => {}
        }
        item.push(c);
    }
    items.push(item);
    // A comma at the end is no further item.
    if items.last().is_some_and(|item| item.trim().is_empty()) {
        items.pop();
    }
    let bare = |item: &str| {
        let item = item.trim();
        let unquote = |quote| item.strip_prefix(quote).and_then(|item: &str| item.strip_suffix(quote));
        unquote('"').or_else(|| unquote('\'')).unwrap_or(item).to_owned()
    };
    items.iter().map(|item| bare(item)).collect()
}
