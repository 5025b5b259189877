//! What the outlets show: a few flags for machines, the whole picture for people.

use std::{collections::BTreeMap, time::Duration};

use super::{Criticality, Status, state::Plan};

/// The instance in a few words; changes only when one of them does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// The worst of all checks; one that is not critical counts as degraded at worst.
    pub status: Status,
    /// Every scheduled check has run once.
    pub checked: bool,
    /// Start-up has ended, after every scheduled check had run once. Never taken back.
    pub started: bool,
    /// The instance is stopping. Never taken back.
    pub draining: bool,
    /// Traffic may come: started, not draining, and every critical check up or degraded.
    pub ready: bool,
}

/// The whole picture.
#[derive(Debug, Clone, serde::Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The instance in a few words.
    #[serde(flatten)]
    pub summary: Summary,
    /// Every check by its name.
    pub checks: BTreeMap<String, CheckReport>,
}

/// What is known of one check. Times are seconds, rounded to milliseconds.
#[derive(Debug, Clone, serde::Serialize)]
#[non_exhaustive]
pub struct CheckReport {
    /// How it is.
    pub status: Status,
    /// Whether the instance serves without it.
    pub criticality: Criticality,
    /// What the last result said; also a failure that has not yet changed the status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How long it has had this status.
    pub since_seconds: f64,
    /// How old the last result is; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<f64>,
    /// How long the last run took; absent before the first, and for a reported check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<f64>,
    /// How it is run and judged; absent for a reported check.
    #[serde(flatten)]
    pub schedule: Option<Schedule>,
}

/// How a scheduled check is run and judged.
#[derive(Debug, Clone, serde::Serialize)]
#[non_exhaustive]
pub struct Schedule {
    /// How long it rests between two runs.
    pub interval_seconds: f64,
    /// How long one run may take.
    pub timeout_seconds: f64,
    /// How many runs in a row must fail before it is down.
    pub failures_to_fall: u32,
    /// How many runs in a row must succeed before it works again.
    pub successes_to_rise: u32,
    /// How many runs in a row have failed.
    pub consecutive_failures: u32,
    /// How many runs in a row have succeeded.
    pub consecutive_successes: u32,
}

impl Schedule {
    pub(crate) fn new(plan: &Plan, failures: u32, successes: u32) -> Self {
        Self {
            interval_seconds: seconds(plan.interval),
            timeout_seconds: seconds(plan.timeout),
            failures_to_fall: plan.failures_to_fall,
            successes_to_rise: plan.successes_to_rise,
            consecutive_failures: failures,
            consecutive_successes: successes,
        }
    }
}

impl Report {
    /// Why the instance is not ready, in one line; `None` when it is.
    #[must_use]
    pub fn why_not_ready(&self) -> Option<String> {
        if self.summary.ready {
            None
        } else if self.summary.draining {
            Some("draining".to_owned())
        } else if let Some(reason) = self.why_not_started() {
            Some(reason)
        } else {
            let stopping = |check: &CheckReport| check.criticality == Criticality::Critical && !check.status.is_able();
            Some(self.list(stopping, |name, check| format!("{name} is {}", check.status)))
        }
    }

    /// Why the instance has not started, in one line; `None` when it has.
    #[must_use]
    pub fn why_not_started(&self) -> Option<String> {
        if self.summary.started {
            None
        } else if self.summary.checked {
            Some("starting".to_owned())
        } else {
            let waiting = |check: &CheckReport| check.schedule.is_some() && check.age_seconds.is_none();
            Some(format!("starting: no result yet of {}", self.list(waiting, |name, _| name.to_owned())))
        }
    }

    fn list(&self, which: impl Fn(&CheckReport) -> bool, line: impl Fn(&str, &CheckReport) -> String) -> String {
        let lines: Vec<_> =
            self.checks.iter().filter(|(_, check)| which(check)).map(|(name, check)| line(name, check)).collect();
        lines.join(", ")
    }
}

/// Seconds, rounded to milliseconds.
pub(crate) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000.0).round() / 1_000.0
}
