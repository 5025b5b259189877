//! Single values: whether one is what the schema expects, and how a message shows it.

use figment::value::Value;
use serde_json::Value as Json;

use super::{
    near::nearest,
    schema::{Kind, Node},
    secret::MASK,
    units::{ByteSize, Duration},
};

/// How much of a wrong value a message shows, in characters.
const SHOWN_CHARACTERS: usize = 60;

/// Checks a single value; the message says what was found and what was expected.
pub(crate) fn leaf(node: &Node, value: &Value) -> Result<Json, String> {
    let refuse = || format!("found {}, expected {}", found_in(node, value), node.expected());
    match (&node.kind, value) {
        (Kind::Bool, Value::Bool(_, truth)) => Ok(Json::Bool(*truth)),
        (Kind::Integer(range), Value::Num(_, number)) => {
            let whole = number.to_i128().or_else(|| number.to_u128().and_then(|number| number.try_into().ok()));
            whole.filter(|number| range.contains(*number)).ok_or_else(refuse).map(|_| json(value))
        }
        (Kind::Float(range), Value::Num(..)) => {
            let number = value.to_f64().or_else(|| as_float(value));
            number.filter(|number| number.is_finite() && range.contains(*number)).ok_or_else(refuse).map(Json::from)
        }
        (Kind::Text, Value::String(_, text)) => Ok(Json::String(text.clone())),
        (Kind::Duration(range), Value::String(..) | Value::Num(..)) => {
            let time: Duration = plain(value).parse()?;
            if range.contains(time) { Ok(time.to_string().into()) } else { Err(refuse()) }
        }
        (Kind::Size(range), Value::String(..) | Value::Num(..)) => {
            let size: ByteSize = plain(value).parse()?;
            if range.contains(size) { Ok(size.to_string().into()) } else { Err(refuse()) }
        }
        (Kind::Choice(words), Value::String(_, text)) => {
            if words.iter().any(|(word, _)| word == text) {
                return Ok(Json::String(text.clone()));
            }
            let near = nearest(text, words.iter().map(|(word, _)| word.as_str()));
            Err(near.map_or_else(refuse, |near| format!("{}; did you mean \"{near}\"?", refuse())))
        }
        _ => Err(refuse()),
    }
}

#[allow(clippy::cast_precision_loss)] // a whole number where a fraction is expected; the bounds of fractions are small
fn as_float(value: &Value) -> Option<f64> {
    value.to_i128().map(|number| number as f64)
}

/// Whether a serialized default has the mask of a secret in it.
pub(crate) fn has_mask(value: &Json) -> bool {
    match value {
        Json::String(text) => text == MASK,
        Json::Array(items) => items.iter().any(has_mask),
        Json::Object(map) => map.values().any(has_mask),
        _ => false,
    }
}

/// A figment value as JSON; what JSON cannot hold becomes null.
pub(crate) fn json(value: &Value) -> Json {
    serde_json::to_value(value).unwrap_or_default()
}

/// A text or number without quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| json(value).to_string(), str::to_owned)
}

/// What was found, shortened.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(_, text) if text.chars().count() > SHOWN_CHARACTERS => {
            format!("\"{}…\"", text.chars().take(SHOWN_CHARACTERS).collect::<String>())
        }
        Value::String(_, text) => format!("{text:?}"),
        Value::Bool(_, truth) => truth.to_string(),
        Value::Num(..) => plain(value),
        _ => kind_of(value),
    }
}

/// What was found where a node is expected: only its kind, when there may be a secret in it.
pub(crate) fn found_in(node: &Node, value: &Value) -> String {
    if node.holds_secret() { kind_of(value) } else { shown(value) }
}

/// What kind of value was found; says nothing of the value itself.
pub(crate) fn kind_of(value: &Value) -> String {
    let kind = match value {
        Value::String(..) | Value::Char(..) => "text",
        Value::Bool(..) => "true or false",
        Value::Num(..) => "a number",
        Value::Empty(..) => "nothing",
        Value::Dict(..) => "a table",
        Value::Array(..) => "a list",
    };
    kind.into()
}
