//! Parameters that can be sent: a path or a query holds texts, numbers, booleans, and a query lists of them. No text is an object.

use serde_json::Value;

use super::{described, parameters, schemas::Schemas};
use crate::{
    coherence::Conflict,
    service::{RouteInfo, Source},
};

/// How deep alternatives are looked at. Chosen: above any type that a person writes.
const MAX_DEPTH: u8 = 8;

/// What of a schema a parameter can be: without the alternatives that are objects. `None` when nothing is left.
pub(super) fn sendable(schema: &Value, lists: bool, schemas: &Schemas) -> Option<Value> {
    reduced(schema, lists, schemas, MAX_DEPTH)
}

fn reduced(schema: &Value, lists: bool, schemas: &Schemas, depth: u8) -> Option<Value> {
    let whole = schemas.resolved(schema);
    let Some(depth) = depth.checked_sub(1) else { return Some(schema.clone()) };
    let inner = |part: &Value, lists| reduced(part, lists, schemas, depth);
    let parts = |key: &str| whole.get(key).and_then(Value::as_array).map(Vec::as_slice);
    let is = |name: &str| is_only(whole.get("type"), name);
    if is("object") || parts("allOf").unwrap_or_default().iter().any(|part| inner(part, lists).is_none()) {
        return None;
    }
    if is("array") {
        let mut items = whole.get("items").into_iter().chain(parts("prefixItems").unwrap_or_default());
        return (lists && items.all(|item| inner(item, false).is_some())).then(|| schema.clone());
    }
    for key in ["anyOf", "oneOf"] {
        let Some(alternatives) = parts(key) else { continue };
        let left: Vec<_> = alternatives.iter().filter_map(|alternative| inner(alternative, lists)).collect();
        if left.iter().all(|alternative| alternative.get("type").is_some_and(|ty| ty == "null")) {
            return None;
        }
        if left != alternatives {
            let mut fewer = whole.clone();
            fewer[key] = left.into();
            return Some(fewer);
        }
    }
    Some(schema.clone())
}

/// Returns whether a value is of this type alone, or is left out: `"array"` and `["array", "null"]`.
fn is_only(types: Option<&Value>, name: &str) -> bool {
    match types {
        Some(Value::Array(types)) => {
            types.iter().all(|ty| ty == name || ty == "null") && types.iter().any(|ty| ty == name)
        }
        Some(ty) => ty == name,
        None => false,
    }
}

/// The parameters that no caller can send, each a reason not to start: every request would be answered 400.
pub(crate) fn unsendable(routes: &[RouteInfo]) -> Vec<Conflict> {
    let mut schemas = Schemas::new();
    let mut conflicts = Vec::new();
    for route in described(routes) {
        for argument in &route.arguments {
            let (names, kind, advice) = match argument.source {
                Source::Query => (
                    parameters::objects_of_query(argument, route, &mut schemas),
                    "query",
                    "put its fields among the others with `#[serde(flatten)]`, or take it in the body",
                ),
                Source::Path => (
                    parameters::objects_of_path(argument, route, &mut schemas),
                    "path",
                    "take a type that is read from one text, such as a newtype of `String` or `u64`",
                ),
                Source::Body | Source::Field | Source::Message => continue,
            };
            conflicts.extend(names.into_iter().map(|name| {
                let message = format!(
                    "its {kind} parameter {name:?} is an object, and a {kind} holds texts, numbers and booleans; {advice}"
                );
                Conflict::new(format!("{} {}", route.method, route.path), message)
            }));
        }
    }
    conflicts
}
