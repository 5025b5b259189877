//! Background tasks under supervision: none is forgotten, none dies unseen.
//!
//! A task that panics, fails or ends early is told three times in the same words: as the health check `background:<name>`, as a
//! log line, and as a count in [`Tasks::stats`]. Its [`Policy`] says whether it is started again, after a back-off.
//!
//! ```text
//! up ──panic, failure, early end──▶ degraded ──third in a row──▶ down       while it is started again
//! up ──panic, failure─────────────▶ down                                    when it is not
//! degraded | down ──ran stable_after (60 s) without ending──▶ up
//! ```
//!
//! Every task is given a token that is cancelled when the service stops; an end after that is in order, whatever it says.
//! All tasks belong to the [`Tasks`] value: when its last clone is dropped they are aborted.
//!
//! ```
//! use chassis::tasks::{Restart, Tasks};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let tasks = Tasks::new(chassis::health::Registry::default());
//! tasks.spawn("refresh-prices", Restart::Always, |stop| async move {
//!     stop.cancelled().await;
//!     Ok::<_, std::io::Error>(())
//! });
//! let aborted = tasks.shutdown(std::time::Instant::now() + std::time::Duration::from_secs(5)).await;
//! assert!(aborted.is_empty());
//! # }
//! ```

mod backoff;
mod supervisor;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use tokio::task::{self, JoinSet};
use tokio_util::sync::CancellationToken;

pub use backoff::Backoff;

use crate::health::{Criticality, Registry};

/// Whether a task that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// Never: it does one thing and is done. A failure leaves its check down.
    Never,
    /// After a panic or an error; `Ok` means it is done.
    #[default]
    OnFailure,
    /// Whenever it ends: it has work as long as the service lives, so even `Ok` is an early end.
    Always,
}

/// How a task is supervised. Made from a [`Restart`] when the rest is as usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Whether it is started again. Default [`Restart::OnFailure`].
    pub restart: Restart,
    /// How long it waits before that.
    pub backoff: Backoff,
    /// Whether the instance can serve without it. Default [`Criticality::NotCritical`] (chosen: requests are still answered).
    pub criticality: Criticality,
}

impl Default for Policy {
    fn default() -> Self {
        Self { restart: Restart::default(), backoff: Backoff::default(), criticality: Criticality::NotCritical }
    }
}

impl From<Restart> for Policy {
    fn from(restart: Restart) -> Self {
        Self { restart, ..Self::default() }
    }
}

/// What has become of one task, counted since start. All tasks of one name share it.
#[derive(Debug)]
pub struct TaskStats {
    name: Arc<str>,
    running: AtomicU64,
    restarts: AtomicU64,
    failures: AtomicU64,
    panics: AtomicU64,
}

impl TaskStats {
    fn new(name: Arc<str>) -> Self {
        let zero = || AtomicU64::new(0);
        Self { name, running: zero(), restarts: zero(), failures: zero(), panics: zero() }
    }

    /// The task's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many run now: 1, or 0 while it waits to be started again and when it is done.
    #[must_use]
    pub fn running(&self) -> u64 {
        self.running.load(Relaxed)
    }

    /// How often it was started again.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Relaxed)
    }

    /// How often it ended with an error or earlier than it should; panics not included.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// How often it panicked.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.panics.load(Relaxed)
    }
}

/// The service's background tasks. Cheap to clone; all clones are the same set.
#[derive(Clone)]
pub struct Tasks(Arc<Shared>);

struct Shared {
    health: Registry,
    stop: CancellationToken,
    owned: Mutex<Owned>,
}

#[derive(Default)]
struct Owned {
    set: JoinSet<()>,
    /// Who is still in the set.
    names: HashMap<task::Id, Arc<str>>,
    stats: BTreeMap<Arc<str>, Arc<TaskStats>>,
}

impl Tasks {
    /// An empty set whose tasks report to this registry.
    #[must_use]
    pub fn new(health: Registry) -> Self {
        Self(Arc::new(Shared { health, stop: CancellationToken::new(), owned: Mutex::default() }))
    }

    /// Starts a task. The closure is called again for each restart; the token tells it to end. The name is its identity in
    /// health, logs and metrics: give each task its own. After [`Tasks::shutdown`] has begun nothing is started.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn spawn<M, F, E>(&self, name: impl Into<Arc<str>>, policy: impl Into<Policy>, make: M)
    where
        M: FnMut(CancellationToken) -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        let (name, policy, stop) = (name.into(), policy.into(), self.0.stop.child_token());
        let mut owned = self.owned();
        if stop.is_cancelled() {
            drop(owned);
            tracing::warn!(task = %name, "background task not started: the service is stopping");
            return;
        }
        owned.reap();
        let stats = owned.stats.entry(name.clone()).or_insert_with(|| Arc::new(TaskStats::new(name.clone()))).clone();
        let reporter = self.0.health.own_reporter(format!("background:{name}"), policy.criticality);
        let supervisor = supervisor::Supervisor::new(stats, policy, reporter, stop);
        let id = owned.set.spawn(supervisor.run(make)).id();
        owned.names.insert(id, name);
    }

    /// Tells every task to end, waits for them until the deadline, then aborts what is left and gives the names of those,
    /// sorted. A task that blocks its thread cannot even be aborted; it is named, and not waited for.
    pub async fn shutdown(&self, deadline: Instant) -> Vec<String> {
        let mut owned = {
            // Cancelled under the lock, so that no spawn can slip in behind it.
            let mut owned = self.owned();
            self.0.stop.cancel();
            Owned {
                set: std::mem::take(&mut owned.set),
                names: std::mem::take(&mut owned.names),
                stats: BTreeMap::new(),
            }
        };
        let all_ended = async {
            while let Some(ended) = owned.set.join_next_with_id().await {
                owned.names.remove(&ended.map_or_else(|error| error.id(), |(id, ())| id));
            }
        };
        // Either way the names that are left are those that have not ended.
        let _ = tokio::time::timeout_at(deadline.into(), all_ended).await;
        let mut left: Vec<_> = owned.names.values().map(|name| name.to_string()).collect();
        left.sort_unstable();
        for task in &left {
            tracing::warn!(task, "background task aborted: it did not end before the deadline");
        }
        left
    }

    /// Every task that was ever started, for the metrics.
    #[must_use]
    pub fn stats(&self) -> Vec<Arc<TaskStats>> {
        self.owned().stats.values().cloned().collect()
    }

    fn owned(&self) -> MutexGuard<'_, Owned> {
        self.0.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Owned {
    /// Lets go of tasks that have ended.
    fn reap(&mut self) {
        while let Some(ended) = self.set.try_join_next_with_id() {
            self.names.remove(&ended.map_or_else(|error| error.id(), |(id, ())| id));
        }
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
