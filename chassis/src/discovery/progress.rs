//! How a registration goes.

use std::sync::Arc;

/// How a registration goes, and how often its registry was called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// How it stands.
    pub state: ProgressState,
    /// Calls of the registry that succeeded: to register, to renew, to take out.
    pub succeeded: u64,
    /// Those that failed.
    pub failed: u64,
}

/// Whether the registry has this instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ProgressState {
    /// It was not asked yet.
    #[default]
    Pending,
    /// It has.
    Registered,
    /// It has not, or is not to be had.
    Failing {
        /// The kind of failure; one of the same kind is no news.
        kind: (u8, u16),
        /// The first failure of this kind.
        reason: Arc<str>,
    },
    /// It has let it go.
    Left,
}
