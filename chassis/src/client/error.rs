//! What may go wrong with a call, and what this service's own caller sees of it.

use std::{
    error::Error,
    fmt::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use http::{Method, StatusCode};

use super::{
    outcome::{TimedOut, is_late_connection, is_no_connection, is_untouched},
    pool::TooLarge,
    problem::{Clipped, RemoteProblem},
};
use crate::{
    cause::Cause,
    error::{BoxError, chain},
    problem::{IntoProblem, Problem, ProblemInfo},
};

/// The code under which this service's caller hears that a call out failed.
const DEPENDENCY_FAILED: &str = "dependency_failed";
const DEPENDENCY_FAILED_TITLE: &str = "A service that this one needs has failed";

/// Who is called, for the error to name.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) method: Method,
    /// Without the query, which may hold much, or what no log should.
    pub(super) uri: String,
    pub(super) idempotent: bool,
}

/// A call that did not bring what was asked for.
///
/// Its text names the call: `GET http://orders:8080/orders/7: 404 order_unknown: there is no order 7`.
///
/// A handler may return it as it is: the caller of this service then sees that a dependency failed (see
/// [`into_problem`](IntoProblem::into_problem)), and the log has the rest. An error that means something to the domain is
/// better told apart first, by [`code`](Self::code).
pub struct CallError(Box<Inner>);

struct Inner {
    target: Arc<Target>,
    what: What,
}

pub(super) enum What {
    InvalidArgument(String),
    NotSent(Cause, Option<BoxError>),
    /// There was a connection, and nobody at its other end has looked at the request.
    Untouched(BoxError),
    DeadlineExceeded {
        sent: bool,
        /// What the time went to, when that is known.
        why: Option<String>,
    },
    BrokenOff {
        status: Option<StatusCode>,
        source: BoxError,
    },
    Problem(RemoteProblem),
    Status {
        found: StatusCode,
        expected: &'static str,
        retry_after: Option<Duration>,
    },
    Undecodable {
        status: StatusCode,
        message: String,
    },
    TooLarge {
        status: StatusCode,
        limit: usize,
    },
    /// The head of the answer is larger than this side takes.
    HeadTooLarge(BoxError),
}

/// What went wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallErrorKind {
    /// An argument cannot be written: an empty path parameter, a body that is not JSON. Nothing was sent.
    InvalidArgument,
    /// There was no connection, or a layer of the transport held the call back, or the other end said that it has not looked
    /// at the request. Nothing was done.
    NotSent,
    /// The time was up.
    DeadlineExceeded,
    /// The connection failed before the whole answer was there, or what came is no HTTP.
    BrokenOff,
    /// The service told a problem.
    Problem,
    /// The service answered with a status that was not expected, and told no problem.
    UnexpectedStatus,
    /// The answer is not what the method says.
    Undecodable,
    /// The answer is larger than the client's limit.
    TooLarge,
}

impl CallError {
    pub(super) fn new(target: &Arc<Target>, what: What) -> Self {
        Self(Box::new(Inner { target: Arc::clone(target), what }))
    }

    /// From what the transport failed with: whether anything was sent is its to know.
    pub(super) fn of_transport(target: &Arc<Target>, error: BoxError) -> Self {
        let mut source: Option<&(dyn Error + 'static)> = Some(&*error);
        let mut what: fn(BoxError) -> What = |source| What::BrokenOff { status: None, source };
        while let Some(inner) = source {
            if let Some(not_sent) = inner.downcast_ref::<NotSent>() {
                return Self::new(
                    target,
                    match not_sent.cause {
                        Cause::DeadlineExceeded => {
                            What::DeadlineExceeded { sent: false, why: not_sent.detail.as_deref().map(str::to_owned) }
                        }
                        cause => What::NotSent(cause, Some(error)),
                    },
                );
            }
            if inner.is::<TimedOut>() {
                return Self::new(target, What::DeadlineExceeded { sent: true, why: None });
            }
            if is_late_connection(inner) {
                return Self::new(target, What::DeadlineExceeded { sent: false, why: Some(inner.to_string()) });
            }
            if is_no_connection(inner) {
                what = |source| What::NotSent(Cause::NoEndpoints, Some(source));
                break;
            }
            if is_untouched(inner) {
                what = What::Untouched;
                break;
            }
            if inner.is::<TooLarge>() {
                what = What::HeadTooLarge;
                break;
            }
            source = inner.source();
        }
        Self::new(target, what(error))
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> CallErrorKind {
        match &self.0.what {
            What::InvalidArgument(_) => CallErrorKind::InvalidArgument,
            What::NotSent(..) | What::Untouched(_) => CallErrorKind::NotSent,
            What::DeadlineExceeded { .. } => CallErrorKind::DeadlineExceeded,
            What::BrokenOff { .. } => CallErrorKind::BrokenOff,
            What::Problem(_) => CallErrorKind::Problem,
            What::Status { .. } => CallErrorKind::UnexpectedStatus,
            What::Undecodable { .. } => CallErrorKind::Undecodable,
            What::TooLarge { .. } | What::HeadTooLarge(_) => CallErrorKind::TooLarge,
        }
    }

    /// The method of the call.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.0.target.method
    }

    /// The URI of the call, without its query. When it could not be written, the template stands in its place.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.0.target.uri
    }

    /// The problem that the service told.
    #[must_use]
    pub fn problem(&self) -> Option<&RemoteProblem> {
        match &self.0.what {
            What::Problem(problem) => Some(problem),
            _ => None,
        }
    }

    /// The status of the answer; `None` when none came.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match &self.0.what {
            What::InvalidArgument(_)
            | What::NotSent(..)
            | What::Untouched(_)
            | What::DeadlineExceeded { .. }
            | What::HeadTooLarge(_) => None,
            What::BrokenOff { status, .. } => *status,
            What::Problem(problem) => Some(problem.status()),
            What::Status { found: status, .. } | What::Undecodable { status, .. } | What::TooLarge { status, .. } => {
                Some(*status)
            }
        }
    }

    /// The stable word of the problem that the service told: `order_unknown`.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.problem().map(RemoteProblem::code).filter(|code| !code.is_empty())
    }

    /// How long the service, or the layer that held the call back, asked to wait before a retry.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match &self.0.what {
            What::NotSent(_, Some(source)) => held_back(&**source).and_then(NotSent::wait),
            What::Problem(problem) => problem.retry_after(),
            What::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether nothing of the request was looked at: it never left this service, or the other end said so.
    #[must_use]
    pub fn never_sent(&self) -> bool {
        matches!(
            self.0.what,
            What::InvalidArgument(_)
                | What::NotSent(..)
                | What::Untouched(_)
                | What::DeadlineExceeded { sent: false, .. }
        )
    }

    /// Whether to send the same call again does no harm: it was never sent, or the service said so, or the method is
    /// idempotent (RFC 9110 §9.2.2), or the route is declared so. Whether it helps is another question.
    #[must_use]
    pub fn retry_safe(&self) -> bool {
        self.never_sent()
            || self.0.target.idempotent
            || self.0.target.method.is_idempotent()
            || self.problem().is_some_and(RemoteProblem::retry_safe)
    }

    /// Whether another answer may stand in for the one that did not come: the service failed, refused for want of room, could
    /// not be had, or answered what cannot be understood. Not when the call itself is wrong: an argument that cannot be
    /// written, or a status from 400 to 499 other than 408 and 429.
    #[must_use]
    pub fn may_fall_back(&self) -> bool {
        match &self.0.what {
            What::InvalidArgument(_) => false,
            What::Problem(_) | What::Status { .. } => self.status().is_none_or(|status| {
                !status.is_client_error()
                    || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
            }),
            What::NotSent(..)
            | What::Untouched(_)
            | What::DeadlineExceeded { .. }
            | What::BrokenOff { .. }
            | What::Undecodable { .. }
            | What::TooLarge { .. }
            | What::HeadTooLarge(_) => true,
        }
    }

    /// The word under which this service's caller would hear of it.
    pub(super) fn word(&self) -> &'static str {
        match &self.0.what {
            What::InvalidArgument(_) => Cause::Internal.as_str(),
            What::NotSent(cause, _) => cause.as_str(),
            What::Untouched(_) => Cause::NoEndpoints.as_str(),
            What::DeadlineExceeded { .. } => Cause::DeadlineExceeded.as_str(),
            _ => DEPENDENCY_FAILED,
        }
    }

    /// Whether an argument could not be written.
    #[must_use]
    pub fn is_invalid_argument(&self) -> bool {
        self.kind() == CallErrorKind::InvalidArgument
    }

    /// Whether nothing was done, for want of a connection or because the transport held the call back.
    #[must_use]
    pub fn is_not_sent(&self) -> bool {
        self.kind() == CallErrorKind::NotSent
    }

    /// Whether the time was up, here or at the service that was called.
    #[must_use]
    pub fn is_deadline_exceeded(&self) -> bool {
        match &self.0.what {
            What::DeadlineExceeded { .. } => true,
            What::Problem(problem) => problem.status() == StatusCode::GATEWAY_TIMEOUT,
            _ => false,
        }
    }

    /// Whether the connection ended before the whole answer was there.
    #[must_use]
    pub fn is_broken_off(&self) -> bool {
        self.kind() == CallErrorKind::BrokenOff
    }

    /// Whether the service told a problem.
    #[must_use]
    pub fn is_problem(&self) -> bool {
        self.kind() == CallErrorKind::Problem
    }

    /// Whether the answer was not what the method says.
    #[must_use]
    pub fn is_undecodable(&self) -> bool {
        self.kind() == CallErrorKind::Undecodable
    }

    pub(crate) fn to_problem(&self) -> Problem {
        let problem = self.as_told();
        let problem = match self.retry_after() {
            Some(wait) if problem.status() == StatusCode::SERVICE_UNAVAILABLE => problem.retry_after(wait),
            _ => problem,
        };
        problem.explained_by(self)
    }

    /// The problem of a failed call, without its explanation.
    fn as_told(&self) -> Problem {
        match &self.0.what {
            What::InvalidArgument(_) => Cause::Internal.into(),
            // A retry of the whole request is not known to be safe, whatever the cause says of this call.
            What::NotSent(cause, _) => Problem::from(*cause).retry_safe(false),
            What::Untouched(_) => Problem::from(Cause::NoEndpoints).retry_safe(false),
            What::DeadlineExceeded { .. } => Cause::DeadlineExceeded.into(),
            _ => dependency_failed(match self.status() {
                Some(StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) => {
                    StatusCode::SERVICE_UNAVAILABLE
                }
                Some(StatusCode::GATEWAY_TIMEOUT) => StatusCode::GATEWAY_TIMEOUT,
                _ => StatusCode::BAD_GATEWAY,
            }),
        }
    }
}

/// The layer's word, also when others have wrapped it.
fn held_back<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a NotSent> {
    std::iter::successors(Some(error), |error| (*error).source()).find_map(|error| error.downcast_ref::<NotSent>())
}

fn dependency_failed(status: StatusCode) -> Problem {
    Problem::new(status, DEPENDENCY_FAILED).title(DEPENDENCY_FAILED_TITLE)
}

/// What the caller of this service is told. Nothing of the inside: the text of the error goes to the log.
///
/// | what went wrong | status | code |
/// | --- | --- | --- |
/// | an argument could not be written | 500 | `internal` |
/// | no connection | 503 | `no_endpoints` |
/// | the transport held the call back | 503 | its own, such as `circuit_open` |
/// | the time was up | 504 | `deadline_exceeded` |
/// | the service answered 429 or 503 | 503, with its `Retry-After` | `dependency_failed` |
/// | the service answered 504 | 504 | `dependency_failed` |
/// | anything else: another problem, a broken or garbled answer | 502 | `dependency_failed` |
///
/// A 404 of a dependency is no 404 of this service: the thing that this service's caller asked for may well exist.
impl IntoProblem for CallError {
    fn into_problem(self) -> Problem {
        self.to_problem()
    }

    fn describe() -> Vec<ProblemInfo> {
        let failed = |status, doc| ProblemInfo::of(&dependency_failed(status)).doc(doc);
        vec![
            failed(StatusCode::BAD_GATEWAY, "A dependency failed, or answered what cannot be understood."),
            failed(StatusCode::SERVICE_UNAVAILABLE, "A dependency cannot take the work now."),
            failed(StatusCode::GATEWAY_TIMEOUT, "A dependency's time was up."),
            ProblemInfo::of(&Cause::NoEndpoints.into()).doc("A dependency cannot be reached."),
            ProblemInfo::of(&Cause::DeadlineExceeded.into()).doc("A dependency did not answer in time."),
        ]
    }
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        error.into_problem()
    }
}

/// One line, with the reason: a certificate that has expired, a port that refuses, a registry that is away.
impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Much of it repeats what other systems said.
        let f = &mut Clipped::new(f);
        write!(f, "{} {}: ", self.0.target.method, self.0.target.uri)?;
        let reason = |source: &BoxError| chain(&**source);
        match &self.0.what {
            What::InvalidArgument(message) => write!(f, "not sent: {message}"),
            What::NotSent(cause, source) => {
                match (cause, source.as_deref().and_then(|source| held_back(source)), source) {
                    (cause, Some(NotSent { detail: Some(detail), .. }), _) => {
                        write!(f, "not sent: {}: {detail}", cause.as_str())
                    }
                    (Cause::NoEndpoints, None, Some(source)) => {
                        // The pool's own error says so as well.
                        let why = reason(source);
                        write!(f, "not sent: no connection: {}", why.strip_prefix("no connection: ").unwrap_or(&why))
                    }
                    (cause, ..) => write!(f, "not sent: {}", cause.as_str()),
                }
            }
            What::Untouched(source) => {
                write!(f, "the other end closed before it looked at the request: {}", reason(source))
            }
            What::DeadlineExceeded { sent: false, why: Some(why) } => write!(f, "not sent: the time was up: {why}"),
            What::DeadlineExceeded { sent: false, why: None } => f.write_str("not sent: the time was up"),
            What::DeadlineExceeded { sent: true, .. } => f.write_str("the time was up before the answer was there"),
            What::BrokenOff { status: None, source } => {
                write!(f, "the connection failed before an answer came: {}", reason(source))
            }
            What::BrokenOff { status: Some(status), source } => {
                write!(f, "{}, and the connection failed within the answer: {}", status.as_u16(), reason(source))
            }
            What::Problem(problem) => write!(f, "{problem}"),
            What::Status { found, expected, .. } => {
                write!(f, "found the status {}, expected {expected}", found.as_u16())
            }
            What::Undecodable { status, message } => write!(f, "{}, and {message}", status.as_u16()),
            What::HeadTooLarge(source) => write!(f, "{source}"),
            What::TooLarge { status, limit } => {
                write!(f, "{}, and the answer is larger than the limit of {limit} bytes", status.as_u16())
            }
        }
    }
}

impl fmt::Debug for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("CallError");
        debug.field("kind", &self.kind()).field("text", &format_args!("{self}"));
        if let Some(source) = self.source() {
            debug.field("source", &source);
        }
        debug.finish()
    }
}

impl Error for CallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0.what {
            What::NotSent(_, Some(source)) | What::Untouched(source) | What::BrokenOff { source, .. } => {
                Some(&**source)
            }
            _ => None,
        }
    }
}

/// What a layer of the transport fails with when it holds a call back: nothing was sent.
///
/// The call's error then says so, and the caller of this service hears the cause: `circuit_open`, `bulkhead_full`.
#[derive(Debug)]
pub struct NotSent {
    cause: Cause,
    detail: Option<Box<str>>,
    retry_after: Option<Duration>,
}

impl NotSent {
    /// Held back for this cause.
    #[must_use]
    pub fn new(cause: Cause) -> Self {
        Self { cause, detail: None, retry_after: None }
    }

    /// What else the log should say: which destination, which limit.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<Box<str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// After how long a call may be let through again. Zero is not told: it would have everybody come back at once.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait).filter(|wait| !wait.is_zero());
        self
    }

    /// Why it was held back.
    #[must_use]
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// After how long a call may be let through again, when that is known.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.cause.title())?;
        self.detail.as_deref().map_or(Ok(()), |detail| write!(f, ": {detail}"))
    }
}

impl Error for NotSent {}

#[cfg(test)]
mod tests;
