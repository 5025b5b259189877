//! Why a service did not start, or ended badly: one error with an exit code.
//!
//! Two error families live in a service. This one is for start-up and shutdown: it is read by an operator and decides
//! the exit code. Errors of a request are domain types that become a [`Problem`](struct@crate::problem::Problem).

use std::fmt;

/// The result of start-up code; `?` takes any error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A boxed error of the request path, as tower has it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Returns an error with its sources on one line, each text once: `tcp connect error: Connection refused (os error 111)`.
///
/// hyper's pool says "client error (Connect)" before the reason; that is left out.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    match error.source() {
        Some(source) if error.is::<hyper_util::client::legacy::Error>() => chain(source),
        _ => with_sources(error),
    }
}

/// The same of an error that borrows.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = one_line(&error.to_string());
    for source in std::iter::successors(error.source(), |error| error.source()) {
        // Some errors repeat their source in their own text.
        let said = one_line(&source.to_string());
        if !said.is_empty() && !text.contains(&said) && !source.is::<hyper_util::client::legacy::Error>() {
            text.push_str(": ");
            text.push_str(&said);
        }
    }
    text
}

/// The text without line breaks.
fn one_line(text: &str) -> String {
    text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The exit codes of a service binary, as `sysexits.h` numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// 0: the service did what was asked and ended in order.
    Success,
    /// 1: a command's answer is "no": `healthcheck` found the service not healthy, `openapi --check` a document that differs.
    Unhealthy,
    /// 2: the command line makes no sense.
    Usage,
    /// 69: something the service needs is not to be had (`EX_UNAVAILABLE`).
    Unavailable,
    /// 70: a fault of the service itself (`EX_SOFTWARE`).
    Internal,
    /// 78: the configuration is wrong (`EX_CONFIG`).
    Config,
}

impl Exit {
    /// The number the process exits with.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Unhealthy => 1,
            Self::Usage => 2,
            Self::Unavailable => 69,
            Self::Internal => 70,
            Self::Config => 78,
        }
    }
}

/// Why the service did not start, or ended badly.
///
/// Made from any error by `?` (exit code 70), or by one of the constructors, which choose the exit code.
/// It does not implement [`std::error::Error`], so that the blanket `From` can exist; what [`into_std`](Self::into_std) makes
/// of it does.
pub struct Error {
    exit: Exit,
    message: String,
    source: Option<BoxError>,
}

impl Error {
    /// The configuration is wrong: exit code 78.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Exit::Config, message)
    }

    /// Something the service needs is not to be had: exit code 69.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Exit::Unavailable, message)
    }

    /// A fault of the service itself: exit code 70.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Exit::Internal, message)
    }

    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), source: None }
    }

    /// The same error with its cause; the cause is printed behind the message.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The exit code this error ends the process with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The same as a [`std::error::Error`], for a `main` whose errors are of another kind: `anyhow`, `eyre`, an `enum` with
    /// `#[from]`. Boxes take it by `?` alone.
    #[must_use]
    pub fn into_std(self) -> StdError {
        StdError(self)
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Error {
    fn from(source: E) -> Self {
        Self {
            exit: Exit::Internal,
            message: source.to_string(),
            source: source.source().map(|source| chain(source).into()),
        }
    }
}

/// An [`Error`] that implements [`std::error::Error`]: made by [`Error::into_std`], and what is inside of a box that `?` makes.
pub struct StdError(Error);

impl StdError {
    /// The exit code that `#[chassis::main]` would end the process with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.0.exit
    }
}

/// The whole of it, as a `main` that returns it prints it.
impl fmt::Debug for StdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for StdError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// The whole of it: a `main` may print no more than this.
impl fmt::Display for StdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// For a `main` of one's own whose `?` gathers boxed errors. The exit code stays behind.
impl From<Error> for BoxError {
    fn from(error: Error) -> Self {
        Box::new(error.into_std())
    }
}

/// As above, for a box that does not leave its thread.
impl From<Error> for Box<dyn std::error::Error> {
    fn from(error: Error) -> Self {
        Box::new(error.into_std())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A message of several lines, such as all that is wrong with the configuration, stays as it is.
        f.write_str(&self.message)?;
        match self.source.as_deref().map(|source| chain(source as _)) {
            Some(why) if !self.message.contains(&why) => f.write_str(": ").and_then(|()| f.write_str(&why)),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_main_with_an_error_type_of_its_own_takes_it_with_its_causes_and_its_exit_code() {
        #[derive(Debug, thiserror::Error)]
        #[error("no service")]
        struct Ended(#[from] StdError);

        fn main() -> Result<(), Ended> {
            let refused: Result<()> = Err(Error::config("http.address: none").caused_by("no such host"));
            refused.map_err(Error::into_std)?;
            Ok(())
        }
        let ended = main().expect_err("an error");
        assert_eq!(ended.0.exit(), Exit::Config);
        let told =
            std::error::Error::source(&ended).map(|cause| (cause.to_string(), cause.source().map(ToString::to_string)));
        assert_eq!(told, Some(("http.address: none: no such host".into(), Some("no such host".into()))));
    }

    #[test]
    fn a_main_that_gathers_boxed_errors_takes_it_with_its_causes() {
        fn main() -> Result<(), BoxError> {
            Err(Error::config("http.address: none").caused_by("no such host"))?;
            Ok(())
        }
        let boxed = main().expect_err("an error");
        assert_eq!(format!("{boxed:?}"), "http.address: none: no such host");
        assert_eq!(
            (boxed.to_string(), boxed.source().map(ToString::to_string)),
            ("http.address: none: no such host".into(), Some("no such host".into()))
        );
    }

    /// An error that leaves its reason to its source, which does the same.
    #[derive(Debug, thiserror::Error)]
    #[error("the {name} failed")]
    struct Layer {
        name: &'static str,
        source: BoxError,
    }

    fn three() -> Layer {
        let disk: BoxError = "no space\n left on device".into();
        let file: BoxError = Box::new(Layer { name: "file", source: disk });
        Layer { name: "store", source: file }
    }

    #[test]
    fn an_error_says_every_reason_once() {
        assert_eq!(chain(&three()), "the store failed: the file failed: no space left on device");
        let io = std::io::Error::other("disk");
        let repeats = Layer { name: "disk", source: io.into() };
        assert_eq!(chain(&repeats), "the disk failed");
    }

    #[test]
    fn a_question_mark_keeps_the_innermost_reason() {
        let error = Error::from(three());
        assert!(error.to_string().ends_with("the file failed: no space left on device"), "{error}");
        let text = Error::unavailable("no store").caused_by(three()).into_std().to_string();
        assert_eq!(text, "no store: the store failed: the file failed: no space left on device");
    }
}
