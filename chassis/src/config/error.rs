//! What can be wrong with a configuration, and where a value came from.

use std::{fmt, path::PathBuf};

use crate::error::Error;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The default that is built into the service.
    Default,
    /// The default that is built in for one profile.
    ProfileDefault(String),
    /// A file, and the line of the key in it.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// The line, counted from 1.
        line: Option<usize>,
    },
    /// A document in a store outside of the process, and the line in it: `consul kv config/orders/config.toml:3`.
    Remote(String),
    /// One key of such a store, which holds plain text: `consul kv config/orders/http/request_timeout`.
    RemoteKey(String),
    /// An environment variable.
    Environment(String),
    /// `--set` with this key.
    CommandLine(String),
}

impl Origin {
    /// Whether values from here are plain text, whose type the schema decides.
    pub(crate) fn is_text(&self) -> bool {
        matches!(self, Self::RemoteKey(_) | Self::Environment(_) | Self::CommandLine(_))
    }

    /// Whether values from here are built in.
    pub(crate) fn is_built_in(&self) -> bool {
        matches!(self, Self::Default | Self::ProfileDefault(_))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("built-in default"),
            Self::ProfileDefault(profile) => write!(f, "built-in default of profile {profile}"),
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::Remote(name) | Self::RemoteKey(name) => f.write_str(name),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::CommandLine(key) => write!(f, "command line --set {key}"),
        }
    }
}

/// One mistake in the configuration; prints as one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The key (`http.address`), or the file or variable when the mistake is about that.
    pub key: String,
    /// What was found, what was expected, what to do. Never holds the value of a secret.
    pub message: String,
    /// Where the value came from.
    pub origin: Option<Origin>,
}

impl ConfigProblem {
    /// A mistake at a key; [`Loaded::origin`](super::Loaded::origin) has its origin.
    pub fn new(key: impl Into<String>, message: impl Into<String>, origin: Option<Origin>) -> Self {
        Self { key: key.into(), message: message.into(), origin }
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)?;
        match &self.origin {
            Some(origin) => write!(f, " ({origin})"),
            None => Ok(()),
        }
    }
}

/// Every mistake that was found in the configuration, sorted by key.
///
/// Like [`Error`] it does not implement [`std::error::Error`], so that `?` turns it into an [`Error`] with exit code 78.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigProblem>);

impl ConfigErrors {
    /// The mistakes in the order they are printed; each is said once.
    pub fn new(mut problems: Vec<ConfigProblem>) -> Self {
        problems.sort_by_cached_key(|problem| (problem.key.clone(), problem.to_string()));
        problems.dedup();
        Self(problems)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 { "" } else { "s" };
        write!(f, "{} problem{plural} in the configuration:", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl fmt::Debug for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<ConfigErrors> for Error {
    fn from(errors: ConfigErrors) -> Self {
        Self::config(errors.to_string())
    }
}
