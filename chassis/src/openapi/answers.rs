//! How an operation is answered when all is well.

use http::{Method, StatusCode, header};
use serde_json::{Map, Value, json};

use super::{
    parameters::media_type,
    problems::{header_reference, of_deprecation},
    schemas::{Direction, Schemas},
};
use crate::service::{Content, RouteInfo};

/// The key of the answer among the responses, and the answer.
pub(super) fn success(route: &RouteInfo, schemas: &mut Schemas) -> (String, Value) {
    let answer = &route.answer;
    let Some(status) = answer.kind.status else {
        return (
            "default".to_owned(),
            json!({
                "description": "The handler chooses the status, the content type and the body; nothing is known of them beforehand.",
            }),
        );
    };
    let mut headers = Map::from_iter([header_reference(crate::observe::TRACE_ID_HEADER.as_str())]);
    if status == StatusCode::CREATED {
        headers.extend([header_reference("Location")]);
    }
    headers.extend(of_deprecation(route));
    let description = match answer.kind.content {
        Content::Events => {
            "Server-sent events; the data of each is one JSON value, described by `x-item-schema`. One named `problem` ends a stream that failed, with a problem as its data."
        }
        Content::JsonLines => "JSON values, one a line, each described by `x-item-schema`.",
        _ => status.canonical_reason().unwrap_or("Success"),
    };
    let mut response = json!({ "description": description, "headers": headers });
    if let Some(content) = content(route, schemas).filter(|_| route.method != Method::HEAD) {
        response["content"] = Value::Object(Map::from_iter([content]));
    }
    (status.as_u16().to_string(), response)
}

fn content(route: &RouteInfo, schemas: &mut Schemas) -> Option<(String, Value)> {
    let place = format!("answer of {} {}", route.method, route.path);
    let body = &route.answer.body;
    match route.answer.kind.content {
        Content::Empty => None,
        Content::Json => Some(media_type("application/json", &schemas.of(Direction::Out, body, &place))),
        Content::Events => Some(stream("text/event-stream", &schemas.of(Direction::Out, body, &place))),
        Content::JsonLines => Some(stream("application/x-ndjson", &schemas.of(Direction::Out, body, &place))),
        Content::Other => Some(("*/*".to_owned(), json!({}))),
    }
}

/// OpenAPI 3.1 has no word for the items of a stream; 3.2 calls it `itemSchema`. `schema` would be that of the whole.
fn stream(media: &str, item: &Value) -> (String, Value) {
    (media.to_owned(), json!({ "x-item-schema": item }))
}

/// The headers that answers refer to.
pub(super) fn headers() -> Value {
    let header = |description: &str, schema: Value| json!({ "description": description, "schema": schema });
    json!({
        crate::observe::TRACE_ID_HEADER.as_str(): header(
            "Names the request in the service's logs and traces.",
            json!({ "type": "string", "pattern": "^[0-9a-f]{32}$" }),
        ),
        canonical(&header::LOCATION): header("Where the new thing is, when the service says so.", json!({ "type": "string" })),
        canonical(&header::RETRY_AFTER): header(
            "How many seconds to wait before the next attempt, when the service says so.",
            json!({ "type": "integer", "minimum": 0 }),
        ),
        "Deprecation": header("Since when callers should use something else (RFC 9745).", json!({ "type": "string" })),
        "Sunset": header("When this will be gone (RFC 8594).", json!({ "type": "string" })),
    })
}

fn canonical(name: &header::HeaderName) -> String {
    let mut start = true;
    let letter = |c: char| {
        let letter = if start { c.to_ascii_uppercase() } else { c };
        start = c == '-';
        letter
    };
    name.as_str().chars().map(letter).collect()
}
