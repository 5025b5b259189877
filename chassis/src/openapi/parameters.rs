//! The parameters of an operation and its body, from a handler's arguments.

use serde_json::{Map, Value, json};

use super::{
    schemas::{Direction, Schemas, truthful},
    sendable::sendable,
};
use crate::service::{ArgumentInfo, RouteInfo, Source};

/// The path as OpenAPI has it: axum's `{*rest}` is a parameter like any other there.
pub(super) fn path(route: &RouteInfo) -> String {
    route.path.replace("{*", "{")
}

/// The parameters that the path names, in its order, and whether each takes the rest of the path.
fn names_in_path(path: &str) -> Vec<(&str, bool)> {
    let pieces = path.split('{').skip(1).filter_map(|piece| Some(piece.split_once('}')?.0));
    pieces.map(|name| name.strip_prefix('*').map_or((name, false), |name| (name, true))).collect()
}

/// Every parameter: those of the path in its order, then those of the query.
pub(super) fn parameters(route: &RouteInfo, schemas: &mut Schemas) -> Vec<Value> {
    let mut parameters = Vec::new();
    for (name, rest) in names_in_path(&route.path) {
        let argument = route.arguments.iter().find(|argument| argument.source == Source::Path && argument.name == name);
        parameters.push(of_path(name, rest, argument, route, schemas));
    }
    for argument in route.arguments.iter().filter(|argument| argument.source == Source::Query) {
        parameters.extend(of_query(argument, route, schemas));
    }
    parameters
}

fn of_path(name: &str, rest: bool, argument: Option<&ArgumentInfo>, route: &RouteInfo, schemas: &mut Schemas) -> Value {
    let place = format!("path parameter {name:?} of {} {}", route.method, route.path);
    let known = argument.and_then(|argument| schemas.known(Direction::In, &argument.ty, &place));
    let known = known.and_then(|schema| sendable(&schema, false, schemas));
    let mut schema = known.unwrap_or_else(|| json!({ "type": "string" }));
    without_null(&mut schema);
    // A router takes no empty segment for a parameter.
    let what = schemas.resolved(&schema);
    let open = what.get("type").is_some_and(|ty| ty == "string") && what.get("enum").is_none();
    if open && what.get("minLength").and_then(Value::as_u64).unwrap_or_default() == 0 {
        schema["minLength"] = 1.into();
    }
    let mut parameter = json!({ "name": name, "in": "path", "required": true });
    describe(&mut parameter, &mut schema);
    if rest {
        parameter["description"] = "The rest of the path; it may hold slashes.".into();
    }
    parameter["schema"] = schema;
    parameter
}

/// One parameter for each property; where the properties are not known beforehand, one that stands for any.
fn of_query(argument: &ArgumentInfo, route: &RouteInfo, schemas: &mut Schemas) -> Vec<Value> {
    let place = format!("query of {} {}", route.method, route.path);
    let schema = schemas.of(Direction::In, &argument.ty, &place);
    let mut properties = Vec::new();
    gather(&schema, true, schemas, &mut properties);
    if properties.is_empty() && schemas.resolved(&schema).get("properties").is_none() {
        let mut parameter = json!({ "name": argument.name, "in": "query", "style": "form", "explode": true });
        let mut schema = schema;
        describe(&mut parameter, &mut schema);
        if schema == json!({}) {
            schema = json!({ "type": "object", "additionalProperties": true });
        }
        parameter["schema"] = schema;
        return vec![parameter];
    }
    let parameter = |Property { name, required, mut schema }| {
        let nullable = without_null(&mut schema);
        let mut parameter = json!({ "name": name, "in": "query" });
        if nullable && !reads_nothing(&schema, schemas) {
            parameter["allowEmptyValue"] = true.into();
        }
        if required {
            parameter["required"] = true.into();
        }
        describe(&mut parameter, &mut schema);
        parameter["schema"] = schema;
        parameter
    };
    let sent = |property: Property| Some(Property { schema: sendable(&property.schema, true, schemas)?, ..property });
    properties.into_iter().filter_map(sent).map(parameter).collect()
}

/// The parameters of a query that are objects.
pub(super) fn objects_of_query(argument: &ArgumentInfo, route: &RouteInfo, schemas: &mut Schemas) -> Vec<String> {
    let place = format!("query of {} {}", route.method, route.path);
    let Some(schema) = schemas.known(Direction::In, &argument.ty, &place) else { return Vec::new() };
    let mut properties = Vec::new();
    gather(&schema, true, schemas, &mut properties);
    properties.retain(|property| sendable(&property.schema, true, schemas).is_none());
    properties.into_iter().map(|property| property.name).collect()
}

/// The parameter of a path, if it is an object.
pub(super) fn objects_of_path(argument: &ArgumentInfo, route: &RouteInfo, schemas: &mut Schemas) -> Vec<String> {
    let place = format!("path parameter {:?} of {} {}", argument.name, route.method, route.path);
    let schema = schemas.known(Direction::In, &argument.ty, &place);
    let is_object = schema.is_some_and(|schema| sendable(&schema, false, schemas).is_none());
    is_object.then(|| argument.name.to_string()).into_iter().collect()
}

struct Property {
    name: String,
    required: bool,
    schema: Value,
}

/// The properties of an object schema, those of its parts and alternatives with them.
fn gather(schema: &Value, must: bool, schemas: &Schemas, into: &mut Vec<Property>) {
    let schema = schemas.resolved(schema);
    let listed = |name: &str| {
        schema.get("required").and_then(Value::as_array).is_some_and(|names| names.iter().any(|other| other == name))
    };
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let property = truthful(property.clone());
        match into.iter_mut().find(|known| known.name == *name) {
            Some(known) if known.schema == property => {}
            // Alternatives that differ in a property: what the document can say is that it is one of them.
            Some(known) => known.schema = json!({ "anyOf": [known.schema.take(), property] }),
            None => into.push(Property { name: name.clone(), required: must && listed(name), schema: property }),
        }
    }
    for (parts, must) in [("allOf", must), ("anyOf", false), ("oneOf", false)] {
        for part in schema.get(parts).and_then(Value::as_array).into_iter().flatten() {
            gather(part, must, schemas, into);
        }
    }
}

/// Whether an empty text is a value like others. Where it is none, it is the same as no parameter.
fn reads_nothing(schema: &Value, schemas: &Schemas) -> bool {
    let schema = schemas.resolved(schema);
    let is_text = schema.get("type").is_none_or(|ty| ty == "string");
    is_text && ["format", "enum", "const", "oneOf", "anyOf"].iter().all(|key| schema.get(key).is_none())
}

/// A parameter is there or it is not: there is no way to write null. Says whether it could be null.
fn without_null(schema: &mut Value) -> bool {
    let before = schema.clone();
    remove_null(schema);
    *schema != before
}

fn remove_null(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|ty| ty != "null");
        if let [one] = &types[..] {
            object["type"] = one.clone();
        }
    }
    if object.get("default") == Some(&Value::Null) {
        object.remove("default");
    }
    if let Some(Value::Array(values)) = object.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    let Some(Value::Array(alternatives)) = object.get_mut("anyOf") else { return };
    alternatives.retain(|alternative| alternative.get("type").is_none_or(|ty| ty != "null"));
    if let [one] = &mut alternatives[..] {
        let one = one.take();
        object.remove("anyOf");
        for (key, value) in one.as_object().cloned().unwrap_or_default() {
            object.entry(key).or_insert(value);
        }
    }
}

/// What is said of a property is said of its parameter.
fn describe(parameter: &mut Value, schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    for key in ["description", "deprecated"] {
        if let Some(said) = object.remove(key) {
            parameter[key] = said;
        }
    }
}

/// The JSON body, if the handler takes one.
pub(super) fn body(route: &RouteInfo, schemas: &mut Schemas) -> Option<Value> {
    let argument = route.arguments.iter().find(|argument| argument.source == Source::Body)?;
    let place = format!("body of {} {}", route.method, route.path);
    let schema = schemas.of(Direction::In, &argument.ty, &place);
    // An `Option` takes no body for none.
    let required = !takes_null(schemas.resolved(&schema));
    Some(json!({ "required": required, "content": Map::from_iter([media_type("application/json", &schema)]) }))
}

fn takes_null(schema: &Value) -> bool {
    let is_null = |ty: &Value| ty == "null";
    match schema.get("type") {
        Some(Value::Array(types)) => types.iter().any(is_null),
        Some(ty) => is_null(ty),
        None => schema.get("anyOf").and_then(Value::as_array).is_some_and(|alternatives| {
            alternatives.iter().any(|alternative| alternative.get("type").is_some_and(is_null))
        }),
    }
}

pub(super) fn media_type(name: &str, schema: &Value) -> (String, Value) {
    (name.to_owned(), json!({ "schema": schema }))
}
