//! What is known of a problem before it happens.

use std::borrow::Cow;

use http::StatusCode;

use super::Problem;
use crate::service::TypeInfo; // floor: the types of public members are described as those of arguments are

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
