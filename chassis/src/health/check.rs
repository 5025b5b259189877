//! What a check is, and how it may differ from the defaults.

use std::{fmt, future::Future, pin::Pin, time::Duration};

use super::{Criticality, HealthConfig, Status, state::Outcome, state::Plan};
use crate::error::with_sources;

/// Something that can be asked whether it works.
///
/// Every closure that returns a future of `Result<(), E>` is one, where `E` is any error or [`CheckError`]. A type
/// implements it with an `async fn`:
///
/// ```
/// use chassis::health::{Check, CheckError};
///
/// struct Disk { used_percent: u8 }
///
/// impl Check for Disk {
///     async fn check(&self) -> Result<(), CheckError> {
///         match self.used_percent {
///             0..90 => Ok(()),
///             90..99 => Err(CheckError::degraded("nearly full")),
///             _ => Err(CheckError::down("full")),
///         }
///     }
/// }
/// ```
///
/// # Cancel safety
/// The future is dropped when the check's timeout has passed, and when the service stops. A panic is a failure.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no health check",
    label = "expected a `Check`",
    note = "pass a closure, `|| async {{ Ok::<(), chassis::health::CheckError>(()) }}`, or write `impl chassis::health::Check for {Self}`"
)]
pub trait Check: Send + Sync + 'static {
    /// Asks once. It must not block its thread: nobody can stop it then, and its result comes late.
    fn check(&self) -> impl Future<Output = Result<(), CheckError>> + Send;
}

impl<F, Fut, E> Check for F
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send,
    E: CheckFailure,
{
    async fn check(&self) -> Result<(), CheckError> {
        self().await.map_err(CheckFailure::into_check_error)
    }
}

/// What a check's closure may fail with: [`CheckError`], or any error that becomes one.
#[diagnostic::on_unimplemented(
    message = "a check cannot fail with `{Self}`",
    label = "expected a `CheckError`, or an error that becomes one",
    note = "of a text: `Err(chassis::health::CheckError::down(\"…\"))`",
    note = "of an error such as `anyhow::Error`: `.map_err(|error| chassis::health::CheckError::down(format!(\"{{error:#}}\")))`"
)]
pub trait CheckFailure {
    /// The failure.
    fn into_check_error(self) -> CheckError;
}

#[diagnostic::do_not_recommend]
impl<E: Into<CheckError>> CheckFailure for E {
    fn into_check_error(self) -> CheckError {
        self.into()
    }
}

/// Why a check did not pass: made from any error by `?` (then the check failed), or by a constructor.
///
/// It does not implement [`std::error::Error`], so that the blanket `From` can exist.
#[derive(Clone, PartialEq, Eq)]
pub struct CheckError {
    degraded: bool,
    message: String,
}

impl CheckError {
    /// The thing does not work.
    pub fn down(message: impl Into<String>) -> Self {
        Self { degraded: false, message: message.into() }
    }

    /// The thing works, but somebody should look. Counts as a success.
    pub fn degraded(message: impl Into<String>) -> Self {
        Self { degraded: true, message: message.into() }
    }

    pub(crate) fn into_outcome(self) -> Outcome {
        if self.degraded { Outcome::Degraded(self.message) } else { Outcome::Fail(self.message) }
    }
}

impl<E: std::error::Error> From<E> for CheckError {
    fn from(error: E) -> Self {
        Self::down(with_sources(&error))
    }
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How one check differs from `[health]`. What is not said stays as configured.
#[derive(Debug, Clone, Default)]
pub struct CheckOptions {
    pub(crate) criticality: Criticality,
    pub(crate) initial: Status,
    interval: Option<Duration>,
    timeout: Option<Duration>,
    failures_to_fall: Option<u32>,
    successes_to_rise: Option<u32>,
}

impl CheckOptions {
    /// The instance serves without it: shown, never fatal. A check is critical unless this is said (chosen: whoever writes
    /// a check by hand means it to steer traffic).
    #[must_use]
    pub fn not_critical(self) -> Self {
        self.criticality(Criticality::NotCritical)
    }

    /// Whether the instance serves without it.
    #[must_use]
    pub fn criticality(mut self, criticality: Criticality) -> Self {
        self.criticality = criticality;
        self
    }

    /// How long it rests between two runs. Default `health.interval`.
    #[must_use]
    pub fn interval(mut self, interval: impl Into<Duration>) -> Self {
        self.interval = Some(interval.into());
        self
    }

    /// How long one run may take. Default `health.timeout`.
    #[must_use]
    pub fn timeout(mut self, timeout: impl Into<Duration>) -> Self {
        self.timeout = Some(timeout.into());
        self
    }

    /// How many runs in a row must fail before it is down. Default `health.failures_to_fall`.
    #[must_use]
    pub fn failures_to_fall(mut self, runs: u32) -> Self {
        self.failures_to_fall = Some(runs);
        self
    }

    /// How many runs in a row must succeed before it works again. Default `health.successes_to_rise`.
    #[must_use]
    pub fn successes_to_rise(mut self, runs: u32) -> Self {
        self.successes_to_rise = Some(runs);
        self
    }

    /// The status before the first run. Default [`Status::Unknown`]: the first result decides at once. With
    /// [`Status::Up`] or [`Status::Down`] the thresholds hold from the first run on.
    #[must_use]
    pub fn initial(mut self, status: Status) -> Self {
        self.initial = status;
        self
    }

    pub(crate) fn plan(&self, config: &HealthConfig) -> Plan {
        Plan {
            interval: self.interval.unwrap_or(config.interval.get()),
            timeout: self.timeout.unwrap_or(config.timeout.get()),
            failures_to_fall: self.failures_to_fall.unwrap_or(config.failures_to_fall).max(1),
            successes_to_rise: self.successes_to_rise.unwrap_or(config.successes_to_rise).max(1),
        }
    }
}

/// The object-safe form of [`Check`].
pub(crate) trait DynCheck: Send + Sync {
    fn run(&self) -> Pin<Box<dyn Future<Output = Result<(), CheckError>> + Send + '_>>;
}

impl<C: Check> DynCheck for C {
    fn run(&self) -> Pin<Box<dyn Future<Output = Result<(), CheckError>> + Send + '_>> {
        Box::pin(self.check())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_becomes_a_failure_with_its_causes() {
        let io = std::io::Error::other(std::io::Error::other("refused"));
        assert_eq!(CheckError::from(io).into_outcome(), Outcome::Fail("refused".to_owned()));
    }

    #[test]
    fn options_left_out_come_from_the_configuration() {
        let config = HealthConfig::default();
        let plan = CheckOptions::default().timeout(Duration::from_millis(9)).failures_to_fall(0).plan(&config);
        assert_eq!((plan.interval, plan.timeout), (config.interval.get(), Duration::from_millis(9)));
        assert_eq!((plan.failures_to_fall, plan.successes_to_rise), (1, 2), "no threshold below one run");
    }
}
