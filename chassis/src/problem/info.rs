//! What is known of a problem before it happens.

use std::borrow::Cow;

use http::StatusCode;

use super::Problem;
use crate::service::TypeInfo; // floor: the types of public members are described as those of arguments are

/// The code of what is not known.
const ANY: &str = "";

/// One problem that an error type can become.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProblemInfo {
    /// The HTTP status.
    pub status: StatusCode,
    /// The stable word.
    pub code: &'static str,
    /// The URI of a page about it; `about:blank` when there is none.
    pub type_uri: Cow<'static, str>,
    /// One sentence about it.
    pub title: Cow<'static, str>,
    /// When it happens: the doc comment of the variant; empty when it has none.
    pub doc: &'static str,
    /// The further members that the caller sees.
    pub members: Vec<(&'static str, TypeInfo)>,
}

impl ProblemInfo {
    /// What is known of a problem like this one.
    #[must_use]
    pub fn of(problem: &Problem) -> Self {
        Self {
            status: problem.status(),
            code: problem.code(),
            type_uri: problem.0.type_uri.clone(),
            title: problem.0.title.clone(),
            doc: "",
            members: Vec::new(),
        }
    }

    /// Problems of which nothing is known beforehand: the document says that there may be others.
    #[must_use]
    pub fn any() -> Self {
        Self::of(&Problem::internal(ANY))
    }

    /// Whether this is [`ProblemInfo::any`].
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.code == ANY
    }

    /// The same with what is said about it.
    #[must_use]
    pub fn doc(mut self, doc: &'static str) -> Self {
        self.doc = doc;
        self
    }

    /// The same with one further member that the caller sees.
    #[must_use]
    pub fn member(mut self, name: &'static str, ty: TypeInfo) -> Self {
        self.members.push((name, ty));
        self
    }
}
