//! What a caller is told when a request fails: problem details (RFC 9457) over HTTP, `google.rpc` details over gRPC.
//!
//! A handler's error becomes a [`struct@Problem`] through [`IntoProblem`], which `#[derive(Problem)]` writes. The same problem is
//! rendered by `http.rs` or `grpc.rs`, so one error type serves both transports. A rejection of the chassis is made from
//! its [`Cause`].
//!
//! A caller is told a stable `code` and, for its own mistakes (4xx), what was wrong. Of the service's faults (5xx) the
//! caller never sees the inside: the error with all its sources goes to the log, under the same code and trace id.

mod clipped;
mod grpc;
mod http;
mod info;

use std::{borrow::Cow, convert::Infallible, error::Error, fmt, time::Duration};

use ::http::{HeaderName, HeaderValue, StatusCode};
use tonic::Code;

use crate::{cause::Cause, context::RequestContext, error::with_sources};

pub(crate) use clipped::clipped;
pub(crate) use grpc::{field_path, push_step, retry_delay, set_domain};
pub use info::ProblemInfo;

/// Writes [`IntoProblem`] for an error type.
///
/// Each variant of an enum (or the struct) says which kind of problem it is: `#[problem(not_found)]`. The kinds are the
/// constructors of [`struct@Problem`]. Further keys:
///
/// - `code = "…"`: the stable word the caller sees; the variant's name in `snake_case` when absent,
/// - `type = "…"`: the URI of a page about this type of problem,
/// - `title = "…"`: one sentence, the same for all problems of this type,
/// - `retry_after = "2s"`: how long the caller should wait before it tries again,
/// - `retry_safe`: the request was certainly not acted upon, so that a retry is safe even where a second request would do harm.
///
/// `#[problem(transparent)]` on a variant with one field hands over to that field's own problem. `#[problem(public)]` on a
/// field shows it to the caller as a member of the problem; a field without a name takes `public = "name"`.
///
/// The error's own text is the `detail` of a 4xx problem. For a 5xx problem the text and its sources go to the log only.
///
/// ```
/// use chassis::problem::{IntoProblem, Problem};
///
/// #[derive(Debug, thiserror::Error, Problem)]
/// enum OrderError {
///     #[error("there is no order {id}")]
///     #[problem(not_found, code = "order_unknown")]
///     Unknown {
///         #[problem(public)]
///         id: u64,
///     },
///     #[error("the store failed")]
///     #[problem(unavailable, retry_after = "2s")]
///     Store(#[from] std::io::Error),
/// }
///
/// let problem = OrderError::Unknown { id: 7 }.into_problem();
/// assert_eq!((problem.status().as_u16(), problem.code()), (404, "order_unknown"));
/// ```
pub use chassis_rs_macros::Problem;

/// The names of a problem's own members; a further member must have another name.
pub(crate) const MEMBERS: [&str; 10] =
    ["type", "title", "status", "detail", "instance", "code", "trace_id", "retry_after", "retry_safe", "violations"];

/// An error that can be told to a caller. Written by `#[derive(Problem)]`, or by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be told to a caller",
    label = "the error of a handler must be a problem",
    note = "if `{Self}` is a type of your own, add `#[derive(chassis::Problem)]` to it, and say of each variant what it is: `#[problem(not_found)]`",
    note = "if it is not, as `String`, `Box<dyn Error>` and `anyhow::Error` are not, return an error type of your own that holds it: \
            `#[derive(Debug, thiserror::Error, chassis::Problem)] enum OrderError {{ #[error(\"it failed\")] #[problem(internal)] Failed(#[from] anyhow::Error) }}`"
)]
pub trait IntoProblem {
    /// The problem that the caller is told.
    fn into_problem(self) -> Problem;

    /// Every problem that it can become, for the OpenAPI document. Default: nothing is known beforehand.
    #[must_use]
    fn describe() -> Vec<ProblemInfo>
    where
        Self: Sized,
    {
        vec![ProblemInfo::any()]
    }
}

impl IntoProblem for Problem {
    fn into_problem(self) -> Problem {
        self
    }
}

impl IntoProblem for Cause {
    fn into_problem(self) -> Problem {
        self.into()
    }
}

impl IntoProblem for Infallible {
    fn into_problem(self) -> Problem {
        match self {}
    }

    fn describe() -> Vec<ProblemInfo> {
        Vec::new()
    }
}

/// One failed request, as its caller is told of it.
///
/// Small to move: the members are on the heap.
#[derive(Clone, PartialEq)]
pub struct Problem(Box<Members>);

#[derive(Clone, PartialEq)]
struct Members {
    status: StatusCode,
    grpc: Code,
    code: &'static str,
    type_uri: Cow<'static, str>,
    title: Cow<'static, str>,
    detail: Option<String>,
    instance: Option<String>,
    retry_after: Option<Duration>,
    retry_safe: bool,
    violations: Vec<Violation>,
    headers: Vec<(HeaderName, HeaderValue)>,
    extra: Vec<(Cow<'static, str>, serde_json::Value)>,
    /// What went wrong inside, for the log only.
    cause: Option<String>,
    /// Why the chassis itself turned the request away; `None` for what a handler tells.
    refused: Option<Cause>,
}

/// One thing wrong with a request, and where.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
struct Violation {
    #[serde(flatten)]
    place: Place,
    message: String,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum Place {
    /// JSON pointer (RFC 6901) into the body; empty for the whole body.
    Pointer(String),
    /// The name of a parameter of the path or the query.
    Parameter(String),
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident = $status:ident, $code:ident;)+) => {
        impl Problem {
            $(
                $(#[doc = $doc])+
                #[must_use]
                pub fn $kind(code: &'static str) -> Self {
                    Self::with_codes(StatusCode::$status, Code::$code, code)
                }
            )+
        }

        /// Every kind of domain problem, for the tests.
        #[cfg(test)]
        const KINDS: &[(&str, fn(&'static str) -> Problem)] = &[$((stringify!($kind), Problem::$kind)),+];
    };
}

kinds! {
    /// The request makes no sense: 400, `INVALID_ARGUMENT`.
    invalid = BAD_REQUEST, InvalidArgument;
    /// The caller did not say who it is, or not credibly: 401, `UNAUTHENTICATED`.
    unauthenticated = UNAUTHORIZED, Unauthenticated;
    /// The caller is known and may not do this: 403, `PERMISSION_DENIED`.
    forbidden = FORBIDDEN, PermissionDenied;
    /// The thing asked for does not exist: 404, `NOT_FOUND`.
    not_found = NOT_FOUND, NotFound;
    /// The thing's present state does not allow it, such as a lost race of two writers: 409, `ABORTED`.
    /// For a thing that exists already there is [`already_exists`](Self::already_exists).
    conflict = CONFLICT, Aborted;
    /// The thing to be made exists already: 409, `ALREADY_EXISTS`.
    already_exists = CONFLICT, AlreadyExists;
    /// The thing existed and will not come back: 410, `NOT_FOUND`.
    gone = GONE, NotFound;
    /// A condition that the caller set does not hold: 412, `FAILED_PRECONDITION`.
    precondition_failed = PRECONDITION_FAILED, FailedPrecondition;
    /// The request is too large: 413, `RESOURCE_EXHAUSTED`.
    payload_too_large = PAYLOAD_TOO_LARGE, ResourceExhausted;
    /// The request is well formed and its content is not acceptable: 422, `INVALID_ARGUMENT`.
    unprocessable = UNPROCESSABLE_ENTITY, InvalidArgument;
    /// The caller asks too often: 429, `RESOURCE_EXHAUSTED`.
    too_many_requests = TOO_MANY_REQUESTS, ResourceExhausted;
    /// A fault of the service: 500, `INTERNAL`.
    internal = INTERNAL_SERVER_ERROR, Internal;
    /// The service does not do this: 501, `UNIMPLEMENTED`.
    not_implemented = NOT_IMPLEMENTED, Unimplemented;
    /// Something the service needs is not to be had now: 503, `UNAVAILABLE`.
    unavailable = SERVICE_UNAVAILABLE, Unavailable;
    /// Something the service needs took too long: 504, `DEADLINE_EXCEEDED`.
    timeout = GATEWAY_TIMEOUT, DeadlineExceeded;
}

impl Problem {
    /// A problem of any HTTP status, with a stable word for the caller's program to act on.
    ///
    /// The gRPC code follows from the status; the constructors that are named by kind choose it better.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str) -> Self {
        Self::with_codes(status, grpc::code_of(status), code)
    }

    fn with_codes(status: StatusCode, grpc: Code, code: &'static str) -> Self {
        Self(Box::new(Members {
            status,
            grpc,
            code,
            // RFC 9457 §4.2.1: the type of a problem whose title is its status's phrase.
            type_uri: Cow::Borrowed("about:blank"),
            title: Cow::Borrowed(status.canonical_reason().unwrap_or("Error")),
            detail: None,
            instance: None,
            retry_after: None,
            retry_safe: false,
            violations: Vec::new(),
            headers: Vec::new(),
            extra: Vec::new(),
            cause: None,
            refused: None,
        }))
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The gRPC code.
    #[must_use]
    pub fn grpc_code(&self) -> Code {
        self.0.grpc
    }

    /// The stable word.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// The URI of a page about this type of problem. Default `about:blank`.
    #[must_use]
    pub fn type_uri(mut self, uri: impl Into<Cow<'static, str>>) -> Self {
        self.0.type_uri = uri.into();
        self
    }

    /// One sentence, the same for all problems of this type. Default: the phrase of the HTTP status.
    #[must_use]
    pub fn title(mut self, title: impl Into<Cow<'static, str>>) -> Self {
        self.0.title = title.into();
        self
    }

    /// What is wrong this time, for the caller to read. It is shown whatever the status: never put a source's text here.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// The URI of this one occurrence. Default `urn:trace:` and the trace id, where there is one.
    #[must_use]
    pub fn instance(mut self, uri: impl Into<String>) -> Self {
        self.0.instance = Some(uri.into());
        self
    }

    /// How long the caller should wait before it tries again. Also sent as `Retry-After`, in whole seconds, rounded up.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// Whether the request was certainly not acted upon, so that a retry is safe whatever the method. Default no.
    ///
    /// A caller is told `retry_safe: true` then, and also when the request is idempotent
    /// ([`RequestContext::is_idempotent`]): acted upon or not, a second one does no harm.
    #[must_use]
    pub fn retry_safe(mut self, safe: bool) -> Self {
        self.0.retry_safe = safe;
        self
    }

    /// One thing wrong with the body: its JSON pointer (RFC 6901; empty for the whole body) and what is wrong with it.
    #[must_use]
    pub fn violation(mut self, pointer: impl Into<String>, message: impl Into<String>) -> Self {
        self.0.violations.push(Violation { place: Place::Pointer(pointer.into()), message: message.into() });
        self
    }

    /// One thing wrong with a parameter of the path or the query: its name and what is wrong with it.
    #[must_use]
    pub fn parameter_violation(mut self, name: impl Into<String>, message: impl Into<String>) -> Self {
        self.0.violations.push(Violation { place: Place::Parameter(name.into()), message: message.into() });
        self
    }

    /// A header of the HTTP answer, beside the problem's own; over gRPC it is not sent.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// A further member for the caller to see. A name that the problem itself uses, or a value that is not JSON, is
    /// left out and logged.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, value: impl serde::Serialize) -> Self {
        let name = name.into();
        match serde_json::to_value(value) {
            Ok(value) if !MEMBERS.contains(&&*name) => {
                self.0.extra.retain(|(other, _)| *other != name);
                self.0.extra.push((name, value));
            }
            Ok(_) => tracing::warn!(member = %name, "a problem's own member cannot be replaced"),
            Err(error) => tracing::warn!(member = %name, %error, "a problem's member is not JSON"),
        }
        self
    }

    /// Takes the explanation from an error: below 500 its text becomes the `detail`; from 500 on its text and its
    /// sources go to the log, and the caller sees neither.
    #[must_use]
    pub fn explained_by(mut self, error: &dyn Error) -> Self {
        if self.0.status.is_server_error() {
            self.0.cause = Some(with_sources(error));
        } else {
            self.0.detail = Some(error.to_string());
        }
        self
    }

    /// The same problem, told by the chassis before a handler was called: the observer counts it as a refusal.
    pub(crate) fn refused(mut self, cause: Cause) -> Self {
        self.0.refused = Some(cause);
        self
    }

    /// Whether the answer says if a retry is safe: where a caller would think of one, and where it is certain.
    ///
    /// It is safe when the request was not acted upon, or when a second one does no harm.
    fn retry_safety(&self) -> Option<bool> {
        let Members { status, retry_safe, .. } = *self.0;
        // RFC 9110, section 15.5.9, names the retry of a 408; RFC 6585 that of a 429.
        let thinkable = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
        (retry_safe || status.is_server_error() || thinkable).then(|| {
            retry_safe || RequestContext::with_current(|context| context.is_some_and(RequestContext::is_idempotent))
        })
    }

    /// Logs what the caller is not told, and leaves it for the failure observers. Called once, where the problem becomes an
    /// answer.
    fn log(&self) {
        if let Some(cause) = &self.0.cause {
            let callers_deadline = RequestContext::with_current(|context| {
                let context = context?;
                let _ = context.0.inside.set(cause.as_str().into());
                Some(
                    self.0.status == StatusCode::GATEWAY_TIMEOUT
                        && context.is_over_by_caller(context.started().elapsed()),
                )
            });
            // A deadline of the caller's own is no fault of the service.
            if callers_deadline == Some(true) {
                tracing::info!(error.type = self.0.code, error = %cause, "the request failed");
            } else {
                tracing::error!(error.type = self.0.code, error = %cause, "the request failed");
            }
        }
    }
}

impl From<Cause> for Problem {
    fn from(cause: Cause) -> Self {
        Self::with_codes(cause.http_status(), cause.grpc_code(), cause.as_str())
            .title(cause.title())
            .retry_safe(cause.never_processed())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.detail.as_deref().unwrap_or(&self.0.title))
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Problem")
            .field("status", &self.0.status)
            .field("code", &self.0.code)
            .field("detail", &self.0.detail)
            .field("cause", &self.0.cause)
            .finish_non_exhaustive()
    }
}

impl Error for Problem {}

#[cfg(test)]
mod tests;
