//! Whose doing a failed request is: the level of its access line goes by it, and what the service counts as its own failures.

use tonic::Code;
use tracing::Level;

use super::AccessStatus;
use crate::{cause::Cause, telemetry::metrics::is_server_error};

/// Whose doing a failed request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// A probe was told that the instance is not ready, which is what it asks for.
    Probe,
    /// The caller's: its own deadline, a method that does not exist.
    Caller,
    /// The stop's.
    Stop,
    /// More requests than the service takes. Anybody can send them.
    Load,
    /// The service's own, or that of what it depends on.
    Service,
}

/// What is known of a request's end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) probe: bool,
    pub(crate) status: AccessStatus,
    /// Why the chassis, and not the handler, gave the answer.
    pub(crate) refused: Option<Cause>,
    /// The answer says that time was up.
    pub(crate) deadline: bool,
    /// The caller's own limit had passed, and no other one before it.
    pub(crate) over_by_caller: bool,
    /// The handler or its body panicked, or the answer broke off.
    pub(crate) broke: bool,
}

/// Whose doing it is; `None` for a request that did not fail, or failed by a 4xx.
pub(crate) fn blame(facts: &Facts) -> Option<Blame> {
    let server_error = match facts.status {
        AccessStatus::Http(status) => status >= 500,
        AccessStatus::Grpc(code) => is_server_error(code) || code == Code::ResourceExhausted && facts.refused.is_some(),
    };
    match facts.refused {
        _ if !server_error && !facts.broke => None,
        _ if facts.probe => Some(Blame::Probe),
        _ if facts.broke => Some(Blame::Service),
        _ if facts.deadline && facts.over_by_caller => Some(Blame::Caller),
        Some(Cause::Draining) => Some(Blame::Stop),
        Some(Cause::Overloaded | Cause::BulkheadFull | Cause::RateLimited) => Some(Blame::Load),
        // Callers find it out by guessing names.
        _ if facts.status == AccessStatus::Grpc(Code::Unimplemented) => Some(Blame::Caller),
        _ => Some(Blame::Service),
    }
}

impl Blame {
    /// The level of the access line. ERROR is for what the service's team has to mend: what anybody outside can cause at
    /// will would hide it.
    pub(crate) const fn level(self) -> Level {
        match self {
            Self::Probe | Self::Caller => Level::INFO,
            Self::Stop | Self::Load => Level::WARN,
            Self::Service => Level::ERROR,
        }
    }

    /// Returns whether the service counts the request as a failure of its own.
    pub(crate) const fn is_own_failure(self) -> bool {
        matches!(self, Self::Load | Self::Service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts = Facts {
        probe: false,
        status: AccessStatus::Http(200),
        refused: None,
        deadline: false,
        over_by_caller: false,
        broke: false,
    };

    #[test]
    fn errors_are_what_the_team_has_to_mend() {
        let (http, grpc) = (AccessStatus::Http, AccessStatus::Grpc);
        let late = Facts { status: http(504), deadline: true, refused: Some(Cause::DeadlineExceeded), ..FACTS };
        for (facts, expected) in [
            (FACTS, None),
            (Facts { status: http(404), refused: Some(Cause::NotFound), ..FACTS }, None),
            (Facts { status: grpc(Code::NotFound), ..FACTS }, None),
            (Facts { status: http(503), probe: true, ..FACTS }, Some(Blame::Probe)),
            (Facts { over_by_caller: true, ..late }, Some(Blame::Caller)),
            (late, Some(Blame::Service)),
            (Facts { status: grpc(Code::DeadlineExceeded), over_by_caller: true, ..late }, Some(Blame::Caller)),
            (Facts { status: grpc(Code::Unimplemented), ..FACTS }, Some(Blame::Caller)),
            (Facts { status: http(503), refused: Some(Cause::Draining), ..FACTS }, Some(Blame::Stop)),
            (Facts { status: http(503), refused: Some(Cause::Overloaded), ..FACTS }, Some(Blame::Load)),
            (
                Facts { status: grpc(Code::ResourceExhausted), refused: Some(Cause::BulkheadFull), ..FACTS },
                Some(Blame::Load),
            ),
            (Facts { status: http(503), refused: Some(Cause::NoEndpoints), ..FACTS }, Some(Blame::Service)),
            (Facts { status: http(500), over_by_caller: true, ..FACTS }, Some(Blame::Service)),
            (Facts { broke: true, over_by_caller: true, ..FACTS }, Some(Blame::Service)),
        ] {
            assert_eq!(blame(&facts), expected, "{facts:?}");
        }
    }
}
