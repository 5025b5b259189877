//! A problem as another service told it: `application/problem+json` (RFC 9457), read without trust.

use std::{
    fmt::{self, Write},
    time::Duration,
};

use http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The longest text of an error that comes from the called service, in bytes. Chosen: what a line of a log can take.
const MAX_TEXT_BYTES: usize = 1024;

/// A problem that the called service told.
///
/// A member of the wrong type counts as absent, as RFC 9457 §3.1 wants it.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteProblem {
    status: StatusCode,
    retry_after: Option<Duration>,
    violations: Vec<RemoteViolation>,
    members: Map<String, Value>,
}

/// One thing wrong with a request, as the called service told it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemoteViolation {
    /// Where: a JSON pointer into the body, or the name of a parameter; empty for the whole.
    pub place: String,
    /// What is wrong.
    pub message: String,
}

impl RemoteProblem {
    /// `None` when the body is no problem.
    pub(super) fn read(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        let content_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/problem+json") {
            return None;
        }
        let members: Map<String, Value> = serde_json::from_slice(body).ok()?;
        let violations = members.get("violations").and_then(Value::as_array).into_iter().flatten();
        let violations = violations.filter_map(violation).collect();
        let told = members.get("retry_after").and_then(Value::as_u64).map(Duration::from_secs);
        Some(Self { status, retry_after: told.or_else(|| retry_after(headers)), violations, members })
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.members.get(name).and_then(Value::as_str)
    }

    /// The status of the answer; what the body says of it is not looked at.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The stable word; empty when the service is none of ours and told none.
    #[must_use]
    pub fn code(&self) -> &str {
        self.text("code").unwrap_or_default()
    }

    /// The URI of a page about this type of problem; `about:blank` when none was told.
    #[must_use]
    pub fn type_uri(&self) -> &str {
        self.text("type").unwrap_or("about:blank")
    }

    /// One sentence, the same for all problems of this type; the phrase of the status when none was told.
    #[must_use]
    pub fn title(&self) -> &str {
        self.text("title").or(self.status.canonical_reason()).unwrap_or("Error")
    }

    /// What was wrong this time.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.text("detail")
    }

    /// The URI of this one occurrence.
    #[must_use]
    pub fn instance(&self) -> Option<&str> {
        self.text("instance")
    }

    /// The trace that the called service worked in; this service's own, unless a proxy began a new one.
    #[must_use]
    pub fn trace_id(&self) -> Option<&str> {
        self.text("trace_id")
    }

    /// How long to wait before a retry: the problem's member, or else the header `retry-after` in seconds.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether the service said that to send the same request again does no harm: it was not acted upon, or is idempotent.
    #[must_use]
    pub fn retry_safe(&self) -> bool {
        self.members.get("retry_safe").and_then(Value::as_bool).unwrap_or(false)
    }

    /// Everything wrong with the request.
    #[must_use]
    pub fn violations(&self) -> &[RemoteViolation] {
        &self.violations
    }

    /// A further member, such as one that the service's error marks `#[problem(public)]`. `None` when it is absent, or
    /// something else.
    #[must_use]
    pub fn member<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        self.members.get(name).and_then(|value| T::deserialize(value).ok())
    }
}

/// `404 order_unknown: there is no order 7`. It ends with `…` where it is too long for a line of a log.
impl fmt::Display for RemoteProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut Clipped::new(f);
        write!(f, "{}", self.status.as_u16())?;
        if !self.code().is_empty() {
            write!(f, " {}", self.code())?;
        }
        write!(f, ": {}", self.detail().unwrap_or_else(|| self.title()))?;
        for violation in &self.violations {
            match &*violation.place {
                "" => write!(f, "; {}", violation.message)?,
                place => write!(f, "; {place} {}", violation.message)?,
            }
        }
        Ok(())
    }
}

/// Writes so much and no more: the text is another service's.
pub(super) struct Clipped<'a, 'b> {
    f: &'a mut fmt::Formatter<'b>,
    left: usize,
    is_full: bool,
}

impl<'a, 'b> Clipped<'a, 'b> {
    pub(super) fn new(f: &'a mut fmt::Formatter<'b>) -> Self {
        Self { f, left: MAX_TEXT_BYTES, is_full: false }
    }
}

impl Write for Clipped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // The text may be another service's: an error stays one line of a log.
        if text.contains(char::is_control) {
            let mut parts = text.split(char::is_control);
            parts.next().map_or(Ok(()), |part| self.write_str(part))?;
            return parts.try_for_each(|part| self.write_str(" ").and_then(|()| self.write_str(part)));
        }
        if self.is_full {
            return Ok(());
        }
        if text.len() <= self.left {
            self.left -= text.len();
            return self.f.write_str(text);
        }
        self.is_full = true;
        let end = (0..=self.left).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        self.f.write_str(&text[..end])?;
        self.f.write_char('…')
    }
}

fn violation(value: &Value) -> Option<RemoteViolation> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let place = text("pointer").or_else(|| text("parameter")).unwrap_or_default();
    Some(RemoteViolation { place, message: text("message")? })
}

/// RFC 9110 §10.2.3, in seconds; a date is not read, since clocks differ between machines.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde_json::json;

    use super::*;

    fn read(content_type: &'static str, body: &str) -> Option<RemoteProblem> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        RemoteProblem::read(StatusCode::SERVICE_UNAVAILABLE, &headers, body.as_bytes())
    }

    #[test]
    fn every_member_is_read() {
        let body = json!({
            "type": "urn:x", "title": "T", "status": 200, "detail": "D", "instance": "urn:i", "code": "c",
            "trace_id": "t", "retry_after": 2, "retry_safe": true, "left": 3,
            "violations": [{ "pointer": "/a", "message": "m" }, { "parameter": "q", "message": "n" }, 7],
        });
        let problem = read("Application/Problem+JSON; charset=utf-8", &body.to_string()).unwrap();
        assert_eq!((problem.status().as_u16(), problem.code(), problem.title()), (503, "c", "T"));
        assert_eq!((problem.type_uri(), problem.detail(), problem.instance()), ("urn:x", Some("D"), Some("urn:i")));
        assert_eq!((problem.trace_id(), problem.retry_safe()), (Some("t"), true));
        assert_eq!(problem.retry_after(), Some(Duration::from_secs(2)));
        assert_eq!((problem.member::<u8>("left"), problem.member::<String>("left")), (Some(3), None));
        let places: Vec<_> = problem.violations().iter().map(|v| (&*v.place, &*v.message)).collect();
        assert_eq!(places, [("/a", "m"), ("q", "n")]);
        assert_eq!(problem.to_string(), "503 c: D; /a m; q n");
    }

    #[test]
    fn members_of_the_wrong_type_count_as_absent() {
        let body = r#"{"code":7,"title":[],"detail":null,"retry_after":"soon","retry_safe":"yes","violations":{}}"#;
        let problem = read("application/problem+json", body).unwrap();
        assert_eq!((problem.code(), problem.title(), problem.detail()), ("", "Service Unavailable", None));
        assert_eq!((problem.retry_after(), problem.retry_safe()), (Some(Duration::from_secs(5)), false));
        assert_eq!(problem.to_string(), "503: Service Unavailable");
    }

    #[test]
    fn a_text_without_end_is_clipped_for_the_log() {
        let violation = json!({ "pointer": "/a", "message": "é".repeat(5000) });
        let body = json!({ "code": "c", "violations": vec![violation; 50] });
        let problem = read("application/problem+json", &body.to_string()).unwrap();
        let text = problem.to_string();
        assert!(text.starts_with("503 c: Service Unavailable; /a éé") && text.ends_with("é…"), "{text}");
        assert!((MAX_TEXT_BYTES..MAX_TEXT_BYTES + 4).contains(&text.len()), "{}", text.len());
        assert_eq!(problem.violations().len(), 50);
    }

    #[test]
    fn what_is_no_problem_is_none() {
        assert_eq!(read("application/json", "{}"), None);
        assert_eq!(read("application/problem+json", "[]"), None);
        assert_eq!(read("application/problem+json", "<html>"), None);
    }
}
