//! The problems of an operation: the handler's own, and what the chassis may say to a request of this route.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::schemas::{Direction, SCHEMAS, Schemas};
use crate::{
    cause::Cause,
    problem::{MEMBERS, ProblemInfo},
    service::{Content, RouteInfo, Source},
};

const PROBLEM_JSON: &str = "application/problem+json";

/// One problem of the chassis: when a route may hear it, and what it says.
struct OfTheChassis {
    /// Under `components/responses`.
    name: &'static str,
    status: StatusCode,
    cause: Cause,
    when: &'static str,
    applies: fn(&RouteInfo) -> bool,
}

/// All of them. A test provokes each and compares.
const OF_THE_CHASSIS: [OfTheChassis; 9] = [
    OfTheChassis {
        name: "InvalidRequest",
        status: StatusCode::BAD_REQUEST,
        cause: Cause::InvalidRequest,
        when: "A parameter is missing or does not fit, or the body is not JSON.",
        applies: |route| !route.arguments.is_empty(),
    },
    OfTheChassis {
        name: "NotAcceptable",
        status: StatusCode::NOT_ACCEPTABLE,
        cause: Cause::InvalidRequest,
        when: "The caller's `accept` excludes what this is answered with.",
        applies: |route| matches!(route.answer.kind.content, Content::Json | Content::Events | Content::JsonLines),
    },
    OfTheChassis {
        name: "BodyTooSlow",
        status: StatusCode::REQUEST_TIMEOUT,
        cause: Cause::DeadlineExceeded,
        when: "The body did not arrive in time.",
        applies: has_body,
    },
    OfTheChassis {
        name: "PayloadTooLarge",
        status: StatusCode::PAYLOAD_TOO_LARGE,
        cause: Cause::PayloadTooLarge,
        when: "The body is larger than the service takes.",
        applies: has_body,
    },
    OfTheChassis {
        name: "NotJson",
        status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
        cause: Cause::InvalidRequest,
        when: "The content type of the body is not JSON.",
        applies: has_body,
    },
    OfTheChassis {
        name: "InvalidContent",
        status: StatusCode::UNPROCESSABLE_ENTITY,
        cause: Cause::InvalidRequest,
        when: "The body is JSON that does not fit; `violations` says where.",
        applies: has_body,
    },
    OfTheChassis {
        name: "Internal",
        status: StatusCode::INTERNAL_SERVER_ERROR,
        cause: Cause::Internal,
        when: "The service failed.",
        applies: |_| true,
    },
    OfTheChassis {
        name: "BulkheadFull",
        status: StatusCode::SERVICE_UNAVAILABLE,
        cause: Cause::BulkheadFull,
        when: "Too many requests of this kind are being served; this one was not acted upon.",
        applies: |route| route.policy.concurrency.is_some(),
    },
    OfTheChassis {
        name: "DeadlineExceeded",
        status: StatusCode::GATEWAY_TIMEOUT,
        cause: Cause::DeadlineExceeded,
        when: "The time for this request was up: the caller's, the route's or the server's.",
        applies: |_| true,
    },
];

fn has_body(route: &RouteInfo) -> bool {
    route.arguments.iter().any(|argument| argument.source == Source::Body)
}

/// One code under one status, with the members that every problem of this code has.
struct Told {
    code: &'static str,
    type_uri: Option<String>,
    /// When it happens, one text for each way to it.
    when: Vec<String>,
    members: BTreeMap<&'static str, Value>,
    /// Members that some of them have.
    maybe: BTreeMap<&'static str, Value>,
}

/// Every problem that the operation may answer with, by status, to be put among its responses.
pub(super) fn problems(route: &RouteInfo, schemas: &mut Schemas) -> BTreeMap<String, Value> {
    let mut by_status: BTreeMap<u16, Vec<Told>> = BTreeMap::new();
    for info in route.problems.iter().filter(|info| !info.is_any()) {
        let told = told(info, route, schemas);
        merge(by_status.entry(info.status.as_u16()).or_default(), told);
    }
    let with_body = route.method != Method::HEAD;
    let headers = of_deprecation(route);
    let shared = with_body && headers.is_empty();
    let mut responses = BTreeMap::new();
    for problem in OF_THE_CHASSIS.iter().filter(|problem| (problem.applies)(route)) {
        let status = problem.status.as_u16();
        if shared && !by_status.contains_key(&status) {
            responses.insert(status.to_string(), json!({ "$ref": format!("#/components/responses/{}", problem.name) }));
            continue;
        }
        merge(by_status.entry(status).or_default(), problem.told());
    }
    for (status, all) in by_status {
        responses.insert(status.to_string(), response(status, &all, with_body, &headers));
    }
    if route.problems.iter().any(ProblemInfo::is_any) {
        let mut other = json!({ "description": "Problems of the handler that it does not describe." });
        if with_body {
            other["content"] = json!({ PROBLEM_JSON: { "schema": { "$ref": format!("{SCHEMAS}Problem") } } });
        }
        responses.insert("default".to_owned(), other);
    }
    responses
}

/// The answers that operations share.
pub(super) fn shared_responses() -> Value {
    let response = |problem: &OfTheChassis| {
        let response = response(problem.status.as_u16(), &[problem.told()], true, &Map::new());
        (problem.name.to_owned(), response)
    };
    Value::Object(OF_THE_CHASSIS.iter().map(response).collect())
}

/// What every answer of a deprecated route bears.
pub(super) fn of_deprecation(route: &RouteInfo) -> Map<String, Value> {
    let mut headers = Map::new();
    if let Some(deprecation) = route.policy.deprecated {
        headers.extend([header_reference("Deprecation")]);
        headers.extend(deprecation.sunset.map(|_| header_reference("Sunset")));
    }
    headers
}

impl OfTheChassis {
    fn told(&self) -> Told {
        Told {
            code: self.cause.as_str(),
            type_uri: None,
            when: vec![self.when.to_owned()],
            members: BTreeMap::new(),
            maybe: BTreeMap::new(),
        }
    }
}

fn told(info: &ProblemInfo, route: &RouteInfo, schemas: &mut Schemas) -> Told {
    let mut when = text(info.doc);
    if when.is_empty() {
        when = info.title.trim_end_matches('.').to_owned() + ".";
    }
    let known = (info.type_uri != "about:blank").then(|| info.type_uri.to_string());
    // A member that has a problem's own name is never sent.
    let members = info.members.iter().filter(|(name, _)| !MEMBERS.contains(name));
    let mut schema = |name: &str, ty| {
        schemas.of(Direction::Out, ty, &format!("member {name:?} of a problem of {} {}", route.method, route.path))
    };
    Told {
        code: info.code,
        type_uri: known,
        when: vec![when],
        members: members.map(|(name, ty)| (*name, schema(name, ty))).collect(),
        maybe: BTreeMap::new(),
    }
}

/// Variants may share a code: what all of them say is certain, the rest is possible.
fn merge(all: &mut Vec<Told>, new: Told) {
    let Some(known) = all.iter_mut().find(|told| told.code == new.code) else {
        all.push(new);
        return;
    };
    for when in new.when {
        if !known.when.contains(&when) {
            known.when.push(when);
        }
    }
    if known.type_uri != new.type_uri {
        known.type_uri = None;
    }
    let (certain, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
        std::mem::take(&mut known.members).into_iter().partition(|(name, _)| new.members.contains_key(name));
    known.maybe.extend(gone);
    for (name, schema) in new.members.into_iter().chain(new.maybe) {
        if !certain.contains_key(name) {
            known.maybe.insert(name, schema);
        }
    }
    known.members = certain;
}

fn response(status: u16, all: &[Told], with_body: bool, more_headers: &Map<String, Value>) -> Value {
    let lines = all.iter().map(|told| format!("- `{}`: {}", told.code, told.when.join(" Or: ")));
    let description = match all {
        [one] => format!("`{}`: {}", one.code, one.when.join(" Or: ")),
        _ => lines.collect::<Vec<_>>().join("\n"),
    };
    let mut headers = Map::from_iter([header_reference(crate::observe::TRACE_ID_HEADER.as_str())]);
    if [429, 503].contains(&status) {
        headers.extend([header_reference("Retry-After")]);
    }
    headers.extend(more_headers.clone());
    let mut response = json!({ "description": description, "headers": headers });
    if with_body {
        response["content"] = json!({ PROBLEM_JSON: { "schema": schema(status, all) } });
    }
    response
}

/// One object for all problems of a status: the members of every problem, the codes as an enumeration, and what some of them
/// have further.
///
/// It repeats the members of `Problem` in place of an `allOf`, which generators of clients refuse when a part narrows another
/// (openapi-python-client: "str can't be merged with Literal") or which they lose; `oneOf` without a discriminator overlaps.
fn schema(status: u16, all: &[Told]) -> Value {
    let mut problem = problem();
    let mut codes: Vec<_> = all.iter().map(|told| told.code).collect();
    codes.sort_unstable();
    narrow(&mut problem["properties"]["status"], json!({ "const": status }));
    let code = match &codes[..] {
        [one] => json!({ "const": one }),
        codes => json!({ "enum": codes }),
    };
    narrow(&mut problem["properties"]["code"], code);
    if let [Told { type_uri: Some(uri), .. }] = all {
        narrow(&mut problem["properties"]["type"], json!({ "const": uri }));
    }
    let mut members: BTreeMap<&str, (Vec<&Value>, Vec<&str>)> = BTreeMap::new();
    for told in all {
        for (name, schema) in told.members.iter().chain(&told.maybe) {
            let (schemas, codes) = members.entry(name).or_default();
            if !schemas.contains(&schema) {
                schemas.push(schema);
            }
            codes.push(told.code);
        }
    }
    let mut of_some = Vec::new();
    for (name, (schemas, codes)) in members {
        problem["properties"][name] = match &schemas[..] {
            [one] => (*one).clone(),
            several => json!({ "anyOf": several }),
        };
        if codes.len() < all.len() {
            of_some.push(format!("`{name}` comes with `{}`.", codes.join("`, `")));
        }
        if all.iter().all(|told| told.members.contains_key(name))
            && let Some(required) = problem["required"].as_array_mut()
        {
            required.push(name.into());
        }
    }
    problem["description"] = match of_some.is_empty() {
        true => "A problem (RFC 9457). It may have further members.".into(),
        false => format!("A problem (RFC 9457). {}", of_some.join(" ")).into(),
    };
    problem
}

/// Says less of a member than every problem does.
fn narrow(member: &mut Value, to: Value) {
    if let (Value::Object(member), Value::Object(to)) = (member, to) {
        // What a constant says already.
        member.remove("minimum");
        member.remove("maximum");
        member.remove("format");
        member.extend(to);
    }
}

/// What every problem is made of, as `problem/http.rs` writes it.
fn problem() -> Value {
    json!({
        "type": "object",
        "description": "Why a request failed (RFC 9457). A problem may have further members.",
        "required": ["type", "title", "status", "code"],
        "properties": {
            "type": { "type": "string", "format": "uri-reference", "description": "A page about this type of problem; about:blank when there is none." },
            "title": { "type": "string", "description": "One sentence, the same for all problems of this type." },
            "status": { "type": "integer", "minimum": 400, "maximum": 599, "description": "The HTTP status." },
            "detail": { "type": "string", "description": "What is wrong this time, for people." },
            "instance": { "type": "string", "format": "uri-reference", "description": "This one occurrence." },
            "code": { "type": "string", "description": "The stable word for programs." },
            "trace_id": { "type": "string", "pattern": "^[0-9a-f]{32}$", "description": "Names the request in the service's logs and traces." },
            "retry_after": { "type": "integer", "minimum": 0, "description": "How many seconds to wait before the next attempt." },
            "retry_safe": { "type": "boolean", "description": "Whether to send the same request again does no harm." },
            "violations": {
                "type": "array",
                "items": { "$ref": format!("{SCHEMAS}Violation") },
                "description": "Everything that is wrong with the request.",
            },
        },
    })
}

/// The components that problems refer to.
pub(super) fn components() -> Map<String, Value> {
    let violation = json!({
        "type": "object",
        "description": "One thing wrong with a request, and where.",
        "required": ["message"],
        "properties": {
            "pointer": { "type": "string", "description": "JSON pointer (RFC 6901) into the body; empty for the whole body." },
            "parameter": { "type": "string", "description": "The parameter of the path or the query." },
            "message": { "type": "string", "description": "What is wrong." },
        },
    });
    Map::from_iter([("Problem".to_owned(), problem()), ("Violation".to_owned(), violation)])
}

/// A header of the components, by its name.
pub(super) fn header_reference(name: &str) -> (String, Value) {
    (name.to_owned(), json!({ "$ref": format!("#/components/headers/{name}") }))
}

/// A doc comment as one text: its lines joined, its paragraphs kept.
pub(super) fn text(doc: &str) -> String {
    let lines: Vec<_> = doc.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end()).collect();
    lines.join("\n").trim().to_owned()
}
