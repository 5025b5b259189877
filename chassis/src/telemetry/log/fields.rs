//! The fields that lines have by themselves, once, with what they mean.
//!
//! `docs/generated/logs.md` begins with [`reference_markdown`] of this table, and tests of the three writers compare it with
//! the lines that they write. What an event has besides is its own: the second half of that page, read from the code.

use std::fmt::Write as _;

/// What a line tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A `tracing` event.
    Event,
    /// One request, target `chassis::access`.
    Access,
    /// One action that must be accounted for, target `chassis::audit`.
    Audit,
}

/// One field.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FieldDoc {
    pub(crate) name: &'static str,
    /// The lines that have it.
    pub(crate) on: &'static [Kind],
    /// When it is there and what it says.
    pub(crate) meaning: &'static str,
}

const ALL: &[Kind] = &[Kind::Event, Kind::Access, Kind::Audit];
const EVENT: &[Kind] = &[Kind::Event];
const ACCESS: &[Kind] = &[Kind::Access];
const AUDIT: &[Kind] = &[Kind::Audit];
const BOTH: &[Kind] = &[Kind::Access, Kind::Audit];

macro_rules! fields {
    ($($name:literal $on:ident $meaning:literal)*) => {
        &[$(FieldDoc { name: $name, on: $on, meaning: $meaning }),*]
    };
}

/// Every field, in the order of a line.
pub(crate) const FIELDS: &[FieldDoc] = fields! {
    "timestamp" ALL "RFC 3339 in UTC, microseconds"
    "level" ALL "`ERROR`, `WARN`, `INFO`, `DEBUG`, `TRACE`. Access: ERROR for a server error, WARN for a slow or aborted request, else INFO. Audit: INFO"
    "target" ALL "the module that writes, or the name of the stream"
    "message" EVENT "what happened; an event without one has none"
    "stream" AUDIT "`audit`"
    "sequence" AUDIT "counts from 0; a gap is a lost line"
    "actor" AUDIT "who did it"
    "action" AUDIT "what was done, a stable word"
    "object" AUDIT "to what"
    "fields" AUDIT "further facts, an object; absent when there are none"
    "protocol" ACCESS "`http`, `grpc` or `grpc-web`"
    "http.request.method" ACCESS "the method; over gRPC `POST`"
    "url.path" ACCESS "the path, without the query"
    "url.query" ACCESS "the query without its secrets, with `log.access.query = true`"
    "http.route" ACCESS "over HTTP the template of the route; absent when no route answers"
    "rpc.method" ACCESS "over gRPC the service and its method; absent when there is none of the name"
    "http.response.status_code" ACCESS "over HTTP; 499 when the caller went away before the head"
    "rpc.response.status_code" ACCESS "over gRPC, the code's name"
    "error.type" ACCESS "when it failed: the cause, the problem's code, the gRPC code, `aborted`, `broken_off`"
    "duration_seconds" ACCESS "from the request's head to the end of the answer's body"
    "http.request.body.size" ACCESS "bytes, as announced"
    "http.response.body.size" ACCESS "bytes, as sent"
    "network.peer.address" ACCESS "the other end of the connection: a proxy, where there is one; absent on a Unix socket"
    "user_agent.original" ACCESS "the header, if there is one"
    "trace_id" ALL "of what is being served: the same id as in the answer's `x-trace-id`. Absent outside of requests and spans"
    "span_id" ALL "the innermost OpenTelemetry span, else the request's own"
    "sampled" ACCESS "whether the trace is recorded"
    "outcome" BOTH "access: `complete` or `aborted`; audit: `success`, `denied` or `failure`"
    "spans" EVENT "the `tracing` spans around the event, outermost first: each its `name` and its fields"
    "service.name" ALL "audit always, others with `log.resource = true`"
    "service.version" ALL "as `service.name`"
    "service.instance.id" ALL "as `service.name`"
};

/// The first half of the page about log lines, Markdown.
#[must_use]
pub(crate) fn reference_markdown() -> String {
    let mut page = String::from(
        "# Log lines\n\n\
         Three streams go to stdout, one JSON object a line: events of the service and the chassis, one access line for each\n\
         request, and the audit log. [Operating](../how-to/operating.md#logs) tells how to filter and thin them out.\n\n\
         ## Fields of every line\n\n\
         An event has its own fields beside these, at the top level; one whose name is taken is `fields.<name>`. Values under a\n\
         name of `log.redact` are `***`.\n\n\
         | field | events | access | audit | meaning |\n|---|---|---|---|---|\n",
    );
    for field in FIELDS {
        let has = |kind| if field.on.contains(&kind) { "yes" } else { "–" };
        let (event, access, audit) = (has(Kind::Event), has(Kind::Access), has(Kind::Audit));
        let _ = writeln!(page, "| `{}` | {event} | {access} | {audit} | {} |", field.name, field.meaning);
    }
    page.push_str(
        "\nLines that found no room are told by one of target `chassis::log`, with their number as `dropped`.\n",
    );
    page
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    /// Lines of one kind have together every field that the table gives to the kind, and no other.
    pub(crate) fn compare(kind: Kind, lines: &[Value], own: &[&str]) {
        let written: BTreeSet<&str> = lines
            .iter()
            .flat_map(|line| line.as_object().into_iter().flat_map(|fields| fields.keys()))
            .map(String::as_str)
            .filter(|name| !own.contains(name))
            .collect();
        let told: BTreeSet<&str> = FIELDS.iter().filter(|field| field.on.contains(&kind)).map(|f| f.name).collect();
        assert_eq!(written, told, "left what is written, right what the reference tells");
    }

    #[test]
    fn no_field_is_told_twice() {
        let names: BTreeSet<&str> = FIELDS.iter().map(|field| field.name).collect();
        assert_eq!(names.len(), FIELDS.len());
    }
}
