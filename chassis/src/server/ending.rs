//! How connections end, in the words of the metric `chassis.connections.ended`.

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The caller closed it, or it closed behind its last answer.
    Closed,
    /// It was idle for too long.
    Idle,
    /// A request head, or the first byte, did not come in time.
    HeaderTimeout,
    /// The caller did not read.
    WriteTimeout,
    /// What came was not HTTP.
    Malformed,
    /// It broke.
    Broken,
    /// The service stopped, and it ended in order.
    Drained,
    /// The service stopped, and the grace period was over.
    Cut,
}

impl Ending {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Idle => "idle",
            Self::HeaderTimeout => "header_timeout",
            Self::WriteTimeout => "write_timeout",
            Self::Malformed => "malformed",
            Self::Broken => "broken",
            Self::Drained => "drained",
            Self::Cut => "cut",
        }
    }

    /// Whether somebody who looks for the reason of a broken call wants to know.
    pub(crate) const fn is_early(self) -> bool {
        !matches!(self, Self::Closed | Self::Idle | Self::Drained)
    }

    pub(crate) fn of(error: &hyper::Error) -> Self {
        if error.is_parse() { Self::Malformed } else { Self::Broken }
    }
}
