//! One task's life: run, judge the end, wait, run again.

use std::{
    fmt::Display,
    future::Future,
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use tokio::{select, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{Policy, Restart, TaskStats};
use crate::health::{Reporter, caught};

/// The third bad end in a row, none of them after a stable run, is no hiccup: the check goes down.
/// Chosen as the usual failure threshold of a health check.
const ENDS_UNTIL_DOWN: u32 = 3;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Done,
    Early,
    Failed(String),
    Panicked(String),
}

impl End {
    fn judge<E: Display>(result: Result<Result<(), E>, String>, restart: Restart) -> Self {
        match result {
            Ok(Ok(())) if restart == Restart::Always => Self::Early,
            Ok(Ok(())) => Self::Done,
            Ok(Err(error)) => Self::Failed(error.to_string()),
            Err(panic) => Self::Panicked(panic),
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Done => "done".to_owned(),
            Self::Early => "ended early".to_owned(),
            Self::Failed(error) => format!("failed: {error}"),
            Self::Panicked(message) => format!("panicked: {message}"),
        }
    }
}

pub(super) struct Supervisor {
    stats: Arc<TaskStats>,
    policy: Policy,
    reporter: Reporter,
    stop: CancellationToken,
    /// Bad ends since the last stable run.
    bad_ends: u32,
}

impl Supervisor {
    pub(super) fn new(stats: Arc<TaskStats>, policy: Policy, reporter: Reporter, stop: CancellationToken) -> Self {
        reporter.up();
        Self { stats, policy, reporter, stop, bad_ends: 0 }
    }

    pub(super) async fn run<M, F, E>(mut self, mut make: M)
    where
        M: FnMut(CancellationToken) -> F,
        F: Future<Output = Result<(), E>>,
        E: Display,
    {
        loop {
            let stop = self.stop.clone();
            let end = self.watch(caught(|| make(stop))).await;
            if self.stop.is_cancelled() {
                if end != End::Done && end != End::Early {
                    tracing::warn!(task = %self.stats.name, reason = end.words(), "background task ended badly while stopping");
                }
                return;
            }
            if !self.wait_after(&end).await {
                return;
            }
            self.stats.restarts.fetch_add(1, Relaxed);
        }
    }

    /// Runs the task once; when it has run long enough, all is well again.
    async fn watch<E: Display>(&mut self, run: impl Future<Output = Result<Result<(), E>, String>>) -> End {
        let _running = Running::new(&self.stats);
        let mut run = pin!(run);
        let restart = self.policy.restart;
        if self.bad_ends > 0 {
            select! {
                result = &mut run => return End::judge(result, restart),
                () = sleep(self.policy.backoff.stable_after) => {}
            }
            self.bad_ends = 0;
            self.reporter.up();
        }
        End::judge(run.await, restart)
    }

    /// Tells of an end and waits. `false`: there is no next run.
    async fn wait_after(&mut self, end: &End) -> bool {
        let task = &self.stats.name;
        let words = end.words();
        match end {
            End::Done => {
                tracing::info!(%task, "background task done");
                self.reporter.up_with(words);
                return false;
            }
            End::Panicked(_) => self.stats.panics.fetch_add(1, Relaxed),
            End::Early | End::Failed(_) => self.stats.failures.fetch_add(1, Relaxed),
        };
        if self.policy.restart == Restart::Never {
            tracing::error!(%task, reason = words, "background task ended");
            self.reporter.down(words);
            return false;
        }
        self.bad_ends = self.bad_ends.saturating_add(1);
        let wait = self.policy.backoff.wait(self.bad_ends, fastrand::f64());
        let message = format!("{words}; started again after {} ms, {} in a row", wait.as_millis(), self.bad_ends);
        tracing::error!(%task, reason = message, "background task ended");
        if self.bad_ends < ENDS_UNTIL_DOWN {
            self.reporter.degraded(message);
        } else {
            self.reporter.down(message);
        }
        select! {
            biased;
            () = self.stop.cancelled() => false,
            () = sleep(wait) => true,
        }
    }
}

/// Counts a run as long as it lives, also when it is aborted.
struct Running(Arc<TaskStats>);

impl Running {
    fn new(stats: &Arc<TaskStats>) -> Self {
        stats.running.fetch_add(1, Relaxed);
        Self(stats.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Relaxed);
    }
}
