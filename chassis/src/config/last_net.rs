//! The last net: what the schema cannot say (an address that does not parse) serde refuses here, and the refusal gets a
//! key and an origin.

use figment::{
    error::{Actual, Kind as Refusal},
    value::Value,
};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::{
    check::Checked,
    error::ConfigProblem,
    origin_near,
    schema::Node,
    source::{is_below, join},
    value::shown,
};

/// Makes the type of the checked values.
///
/// serde stops at the first mistake; a mistaken value is replaced by its default and serde asked again, until it finds
/// no more.
pub(crate) fn deserialize<T: DeserializeOwned>(
    root: &Node,
    checked: &mut Checked,
    defaults: &Json,
    prefix: &str,
) -> Option<T> {
    let sound = checked.problems.is_empty();
    let mut tree = checked.tree.clone();
    loop {
        let value = Value::serialize(&tree).ok()?;
        let error = match value.deserialize::<T>() {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let missing = matches!(error.kind, Refusal::MissingField(_));
        let path = error.path.join(".");
        let path = if let Refusal::MissingField(name) = &error.kind { join(&path, name) } else { path };
        let key = join(prefix, &path);
        // A value that was refused before is missing here, and was told of.
        if !sound && missing || checked.problems.iter().any(|problem| is_below(&problem.key, &key)) {
            return None;
        }
        let pointer = format!("/{}", path.replace('.', "/"));
        let node = root.find(&path);
        let secret = node.is_none_or(Node::holds_secret);
        let message = refusal(&error.kind, tree.pointer(&pointer), secret);
        let origin = origin_near(&checked.origins, &key).cloned();
        checked.problems.push(ConfigProblem::new(key, message, origin));
        let default = defaults.pointer(&pointer).or(node.and_then(|node| node.default.as_ref())).cloned();
        match (tree.pointer_mut(&pointer), default) {
            (Some(place), Some(default)) if !path.is_empty() && *place != default => *place = default,
            _ => return None,
        }
    }
}

fn refusal(kind: &Refusal, value: Option<&Json>, secret: bool) -> String {
    match (kind, value) {
        (Refusal::MissingField(_), _) => "missing".into(),
        (_, Some(Json::String(_)) | None) if secret => "the value is refused by its type".into(),
        (Refusal::InvalidType(Actual::Map | Actual::Seq, expected), _) => format!("expected {expected}"),
        (_, _) if secret => "a value in this table is refused by its type".into(),
        (kind, Some(found @ (Json::String(_) | Json::Number(_) | Json::Bool(_)))) => {
            let found = Value::serialize(found).map_or_else(|_| String::new(), |value| shown(&value));
            format!("found {found}, which is refused: {kind}")
        }
        (kind, _) => format!("refused: {kind}"),
    }
}
