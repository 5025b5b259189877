//! Descriptors: one for each connection, each file, each pipe; the process may have only so many.
//!
//! The limit that counts, the soft one, is often 1,024, for programs that use `select`; the hard one is what the operator
//! allows. So the soft limit is raised to the hard one at start, as Go does. The main port gets what the rest of the process
//! does not need, and the operators' port keeps a few to itself: when everything is used up, the probes have to answer.

use std::{
    fs::File,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::Instant;

use super::HttpConfig;

/// The share of the limit that the connections of the main port leave: to calls out, the operators' port, files and the
/// service's own. Chosen: a quarter.
const RESERVE_SHARE: u64 = 4;
/// The most that they leave. Chosen: 256 for the operators' port, 1,024 for calls out.
const RESERVE_MAX: u64 = 1280;
/// How many descriptors the operators' port keeps to itself. Chosen: the probes of a kubelet, a scraper and a person.
pub(super) const SPARE: usize = 8;
/// How often it is logged at most that connections cannot be accepted.
const WARN_EVERY: Duration = Duration::from_secs(1);

/// Raises the soft limit of open files to the hard one.
pub(crate) fn raise() {
    let before = getrlimit(Resource::Nofile);
    if before.current == before.maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: before.maximum, ..before }) {
        Ok(()) => tracing::debug!(from = before.current, to = before.maximum, "the limit of open files is raised"),
        // macOS refuses more than its own maximum.
        Err(error) => tracing::debug!(%error, limit = before.current, "the limit of open files cannot be raised"),
    }
}

/// How many descriptors are open now; 0 where the system does not say.
fn open() -> u64 {
    std::fs::read_dir("/dev/fd").map_or(0, |list| list.count() as u64)
}

/// The settings of the main port with no more connections than there are descriptors for.
pub(crate) fn reconcile(config: &HttpConfig) -> HttpConfig {
    let (wanted, limit) = (config.max_connections, getrlimit(Resource::Nofile).current);
    let served = share(wanted, limit, open());
    if served < wanted {
        tracing::warn!(
            configured = wanted,
            served,
            open_files = limit,
            "http.max_connections is more than the limit of open files has room for: fewer connections are served at once; \
             raise the hard limit (ulimit -Hn, LimitNOFILE=), or set http.max_connections to this number"
        );
    }
    HttpConfig { max_connections: served, ..config.clone() }
}

fn share(wanted: u32, limit: Option<u64>, open: u64) -> u32 {
    let Some(limit) = limit else { return wanted };
    let reserve = (limit / RESERVE_SHARE).min(RESERVE_MAX);
    let room = limit.saturating_sub(reserve).saturating_sub(open).max(1);
    u32::try_from(room).unwrap_or(u32::MAX).min(wanted)
}

/// Descriptors that are open for nothing, so that there are some to give up when all are used up.
#[derive(Debug, Clone)]
pub(crate) struct Spare(Arc<Mutex<Vec<File>>>);

impl Spare {
    pub(crate) fn new() -> Self {
        let spare = Self(Arc::default());
        spare.fill();
        spare
    }

    /// Opens what is missing, as far as there is room.
    fn fill(&self) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while files.len() < SPARE {
            let Ok(file) = File::open("/dev/null") else { return };
            files.push(file);
        }
    }

    /// Closes one, so that another may be opened in its place; it is opened again when what is returned is dropped.
    pub(super) fn lend(&self) -> Option<Lent> {
        let file = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        file.map(|_closed| Lent(self.clone()))
    }
}

/// The place of a spare descriptor.
#[derive(Debug)]
pub(super) struct Lent(Spare);

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.fill();
    }
}

/// Returns whether a warning is due, of those that the whole process may log once in a while.
pub(super) fn may_warn() -> bool {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    let due = last.is_none_or(|last| now.saturating_duration_since(last) >= WARN_EVERY);
    if due {
        *last = Some(now);
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_to_the_rest() {
        for (wanted, limit, open, served) in [
            (10_000, None, 50, 10_000),
            (10_000, Some(1_048_576), 50, 10_000),
            (10_000, Some(11_330), 50, 10_000),
            (10_000, Some(1_024), 50, 718),
            (100, Some(1_024), 50, 100),
            (10_000, Some(64), 60, 1),
        ] {
            assert_eq!(share(wanted, limit, open), served, "{limit:?}");
        }
    }

    #[test]
    fn a_lent_descriptor_comes_back() {
        let spare = Spare::new();
        let lent: Vec<_> = (0..SPARE).filter_map(|_| spare.lend()).collect();
        assert!(lent.len() == SPARE && spare.lend().is_none());
        drop(lent);
        assert!(spare.lend().is_some());
    }
}
