//! What can be wrong, and what a caller is told of it.

use chassis::Problem;

/// Why somebody is not greeted.
#[derive(Debug, PartialEq, Eq, thiserror::Error, Problem)]
pub(crate) enum GreetError {
    /// Nothing but spaces.
    #[error("a name has a letter at least")]
    #[problem(unprocessable, code = "empty_name")]
    Empty,
    /// More characters than the settings allow.
    #[error("the name has {found} characters, and at most {limit} are greeted")]
    #[problem(unprocessable, code = "name_too_long")]
    TooLong {
        found: usize,
        #[problem(public)]
        limit: usize,
    },
}
