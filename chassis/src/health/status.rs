//! The words of health.

use std::fmt;

/// How a check, or the instance as a whole, is. Ordered from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It works.
    Up,
    /// It works, but somebody should look. Traffic keeps coming.
    Degraded,
    /// There is no result yet, or there has been none for too long. Counts as not working.
    #[default]
    Unknown,
    /// It does not work.
    Down,
}

impl Status {
    /// Whether work can be done: up or degraded.
    #[must_use]
    pub const fn is_able(self) -> bool {
        matches!(self, Self::Up | Self::Degraded)
    }

    /// The word that every outlet uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Unknown => "unknown",
            Self::Down => "down",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether the instance can serve at all without the thing that is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Criticality {
    /// When it is down or unknown, the instance is not ready: traffic goes elsewhere.
    #[default]
    Critical,
    /// Shown, never fatal: when it is not up, the instance is degraded and stays ready.
    NotCritical,
}

impl Criticality {
    /// What a check with this status means for the instance as a whole.
    pub(crate) fn weigh(self, status: Status) -> Status {
        match self {
            Self::Critical => status,
            Self::NotCritical => status.min(Status::Degraded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_is_not_critical_can_only_degrade() {
        for (status, weight) in [
            (Status::Up, Status::Up),
            (Status::Degraded, Status::Degraded),
            (Status::Unknown, Status::Degraded),
            (Status::Down, Status::Degraded),
        ] {
            assert_eq!(Criticality::NotCritical.weigh(status), weight);
            assert_eq!(Criticality::Critical.weigh(status), status);
        }
    }
}
