//! The OpenAPI document of a service, made from the descriptions of its routes alone, and how it is served.
//!
//! The same routes give the same bytes, whatever the configuration: a document that is committed differs when the service
//! does. `docs/how-to/openapi.md` says what is in it and what is not.

mod answers;
mod compare;
pub(crate) mod config;
pub(crate) mod http;
#[cfg(feature = "docs-page")]
mod page;
mod parameters;
mod problems;
mod schemas;
mod sendable;
mod text;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use ::http::Method;
use serde_json::{Map, Value, json};

use self::schemas::Schemas;
pub(crate) use self::sendable::unsendable;
use crate::{
    service::{RouteInfo, RouteKind},
    telemetry::log::line::date_time,
};

/// The version of OpenAPI that documents are written in. Its schemas are plain JSON Schema, draft 2020-12.
const OPENAPI: &str = "3.1.1";

/// The methods that a document can hold (OpenAPI 3.1, Path Item Object).
const METHODS: [Method; 8] = [
    Method::GET,
    Method::PUT,
    Method::POST,
    Method::DELETE,
    Method::OPTIONS,
    Method::HEAD,
    Method::PATCH,
    Method::TRACE,
];

/// The OpenAPI document of a service. Printed by `Display`, in one order whatever the build.
///
/// ```
/// use chassis::{openapi, service::RouteInfo};
///
/// let routes = [RouteInfo::new(http::Method::GET, "/orders/{id}", "order").doc("Look one order up.")];
/// let document = openapi::document("orders", "1.0.0", &routes);
/// assert_eq!(document.as_json()["paths"]["/orders/{id}"]["get"]["summary"], "Look one order up.");
/// println!("{document}");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    json: Value,
    undescribed: Vec<String>,
}

impl Document {
    /// The document.
    #[must_use]
    pub fn as_json(&self) -> &Value {
        &self.json
    }

    /// The types that cannot tell their schema, each with where it is used: the document says "any value" of them.
    #[must_use]
    pub fn undescribed(&self) -> &[String] {
        &self.undescribed
    }

    /// What is different in another document, a line for each place; empty when they say the same.
    #[must_use]
    pub fn differences(&self, other: &Value) -> Vec<String> {
        compare::differences(&self.json, other)
    }
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::render(&self.json))
    }
}

/// The document of these routes, for a service with this name and version. Methods of gRPC are left out.
#[must_use]
pub fn document(title: &str, version: &str, routes: &[RouteInfo]) -> Document {
    let mut schemas = Schemas::new();
    let routes: Vec<&RouteInfo> = described(routes).collect();
    let ids = operation_ids(&routes);
    let mut paths = Map::new();
    for (route, id) in routes.iter().zip(ids) {
        let item = paths.entry(parameters::path(route)).or_insert_with(|| json!({}));
        item[route.method.as_str().to_ascii_lowercase()] = operation(route, &id, &mut schemas);
    }
    let mut json = json!({
        "openapi": OPENAPI,
        "info": { "title": title, "version": version },
        "paths": paths,
        "components": { "headers": answers::headers(), "responses": problems::shared_responses() },
    });
    let tags = tags(&routes);
    if !tags.is_empty() {
        json["tags"] = tags.into_iter().map(|name| json!({ "name": name })).collect();
    }
    drop_unused(&mut json, "responses");
    drop_unused(&mut json, "headers");
    let undescribed = schemas.finish(&mut json, problems::components());
    Document { json, undescribed }
}

/// The routes that a document holds.
pub(crate) fn described(routes: &[RouteInfo]) -> impl Iterator<Item = &RouteInfo> {
    routes.iter().filter(|route| route.kind == RouteKind::Http && METHODS.contains(&route.method))
}

/// In the order in which they are first named.
fn tags<'a>(routes: &[&'a RouteInfo]) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    routes.iter().flat_map(|route| &route.tags).copied().filter(|tag| seen.insert(*tag)).collect()
}

fn operation(route: &RouteInfo, id: &str, schemas: &mut Schemas) -> Value {
    let mut operation = json!({ "operationId": id });
    let doc = problems::text(route.doc);
    let (summary, rest) = doc.split_once('\n').unwrap_or((&doc, ""));
    let policy = &route.policy;
    let says: [(&str, Option<Value>); 9] = [
        ("tags", (!route.tags.is_empty()).then(|| route.tags.iter().copied().collect())),
        ("summary", non_empty(summary)),
        ("description", non_empty(rest)),
        ("deprecated", policy.deprecated.map(|_| true.into())),
        ("x-deprecated-since", policy.deprecated.map(|deprecation| date(deprecation.since).into())),
        ("x-sunset", policy.deprecated.and_then(|deprecation| Some(date(deprecation.sunset?).into()))),
        ("x-idempotent", policy.idempotent.then(|| true.into())),
        ("x-timeout", policy.timeout.map(|timeout| crate::config::Duration(timeout).to_string().into())),
        ("x-body-limit", policy.body_limit.map(Value::from)),
    ];
    for (key, value) in says {
        if let Some(value) = value {
            operation[key] = value;
        }
    }
    let parameters = parameters::parameters(route, schemas);
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(body) = parameters::body(route, schemas) {
        operation["requestBody"] = body;
    }
    let mut responses: Map<String, Value> = problems::problems(route, schemas).into_iter().collect();
    // A handler that chooses its answer may choose any: that says more than that it may tell a problem.
    responses.extend([answers::success(route, schemas)]);
    operation["responses"] = responses.into();
    operation
}

fn non_empty(text: &str) -> Option<Value> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.into())
}

/// The handlers' names; where two are the same, with the name of their service, and then a number.
fn operation_ids(routes: &[&RouteInfo]) -> Vec<String> {
    let mut count: BTreeMap<&str, u32> = BTreeMap::new();
    for route in routes {
        *count.entry(route.handler).or_default() += 1;
    }
    let mut taken = BTreeSet::new();
    let id = |route: &&RouteInfo| {
        let service = route.service.split('<').next().unwrap_or_default().rsplit("::").next().unwrap_or_default();
        let unique = count.get(route.handler) == Some(&1) || service.is_empty();
        let plain = if unique { route.handler.to_owned() } else { format!("{service}_{}", route.handler) };
        let mut id = plain.clone();
        let mut number = 2;
        while !taken.insert(id.clone()) {
            id = format!("{plain}_{number}");
            number += 1;
        }
        id
    };
    routes.iter().map(id).collect()
}

/// The day of a second since 1970, as `2026-06-30`.
fn date(seconds: i64) -> String {
    let text = date_time(u64::try_from(seconds).unwrap_or_default());
    String::from_utf8_lossy(&text[..10]).into_owned()
}

/// Takes the components away that nothing refers to.
fn drop_unused(document: &mut Value, kind: &str) {
    let text = document.to_string();
    if let Some(components) = document["components"][kind].as_object_mut() {
        components.retain(|name, _| text.contains(&format!("\"#/components/{kind}/{name}\"")));
    }
}

#[cfg(test)]
mod tests;
