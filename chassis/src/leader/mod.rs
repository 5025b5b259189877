//! One of many: work that only one instance of a service does at a time.
//!
//! ```no_run
//! # use chassis::Chassis;
//! # async fn bill(_token: u64) {}
//! # #[chassis::main]
//! # async fn main(chassis: Chassis) -> chassis::Result<()> {
//! let leader = chassis.leader("billing")?;
//! chassis
//!     .background("billing", chassis::tasks::Restart::OnFailure, move |stop| {
//!         let leader = leader.clone();
//!         async move {
//!             let billing = leader.run(|term| async move {
//!                 loop {
//!                     bill(term.fencing_token()).await;
//!                 }
//!             });
//!             tokio::select! {
//!                 _ = billing => {}
//!                 () = stop.cancelled() => {}
//!             }
//!             Ok::<_, std::convert::Infallible>(())
//!         }
//!     })
//!     .serve()
//!     .await
//! # }
//! ```
//!
//! Leadership is a lease: the instance that holds it steps down by its own monotonic clock before anybody else can be
//! elected, so no two believe that they lead. What cannot be ruled out is a write that was sent while leading and arrives
//! later; [`Term::fencing_token`] is for that. What is left of this when Consul loses its data says `docs/how-to/leader.md`.

pub(crate) mod state;

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::clock::now;

/// A candidate for one kind of work; see [`Chassis::leader`](crate::Chassis::leader). Cheap to clone; all clones are the
/// same candidate.
#[derive(Clone)]
pub struct Leader(Arc<Shared>);

struct Shared {
    name: String,
    term: watch::Sender<Option<Term>>,
    /// Work of [`Leader::run`], so that the leadership is given back after it has ended.
    works: TaskTracker,
    /// There will be no further term.
    over: CancellationToken,
}

/// One time of leading, from the election to the end.
#[derive(Clone)]
pub struct Term {
    fencing_token: u64,
    lease: Arc<Lease>,
    ended: CancellationToken,
}

/// Until when, in a form that one load reads.
#[derive(Debug)]
struct Lease {
    base: Instant,
    /// Nanoseconds after `base`; 0 when it is over.
    until: AtomicU64,
}

impl Leader {
    pub(crate) fn new(name: &str) -> Self {
        let shared = Shared {
            name: name.to_owned(),
            term: watch::Sender::new(None),
            works: TaskTracker::new(),
            over: CancellationToken::new(),
        };
        Self(Arc::new(shared))
    }

    /// The name of the work.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether this instance leads now, by its own clock.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.0.term.borrow().as_ref().is_some_and(Term::is_current)
    }

    /// The term now, and each later one; `None` while another instance leads, or nobody.
    ///
    /// The channel follows the clock by a moment; [`Term::is_current`] is exact.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Option<Term>> {
        self.0.term.subscribe()
    }

    /// Waits until this instance leads. `None`: the service is stopping, it will not lead any more.
    ///
    /// Cancel safe.
    pub async fn elected(&self) -> Option<Term> {
        let mut terms = self.0.term.subscribe();
        let elected = terms.wait_for(|term| term.as_ref().is_some_and(Term::is_current));
        tokio::select! {
            biased;
            () = self.0.over.cancelled() => None,
            term = elected => term.ok()?.clone(),
        }
    }

    /// Does the work while this instance leads: waits for a term, calls `work` with it, drops the future when the term ends,
    /// and waits for the next. Gives what the work came to when it ended by itself; `None` when the service stops.
    ///
    /// The future is not polled any more once the lease is over, so what it holds must be sound when dropped at any await. It
    /// must not block its thread: nobody could stop it. When the service stops, the leadership is given back after the
    /// work's future was dropped.
    ///
    /// Cancel safe: dropping it drops the work.
    pub async fn run<F, Fut>(&self, mut work: F) -> Option<Fut::Output>
    where
        F: FnMut(Term) -> Fut,
        Fut: Future,
    {
        loop {
            let term = self.elected().await?;
            let counted = self.0.works.token();
            let done = term.hold(work(term.clone())).await;
            drop(counted);
            if done.is_some() {
                return done;
            }
        }
    }

    /// Begins a term.
    pub(crate) fn begin(&self, fencing_token: u64, until: Instant, now: Instant) {
        let lease = Lease { base: now, until: AtomicU64::new(Lease::nanos(now, until)) };
        let term = Term { fencing_token, lease: Arc::new(lease), ended: CancellationToken::new() };
        self.0.works.reopen();
        if let Some(last) = self.0.term.send_replace(Some(term)) {
            last.end();
        }
    }

    /// The lease of the present term lasts until then. `false`: the term is over by the clock, or there is none; work may
    /// have been dropped already, so only a new term can go on.
    pub(crate) fn extend(&self, until: Instant) -> bool {
        self.0.term.borrow().as_ref().is_some_and(|term| term.lease.extend(until))
    }

    /// Ends the present term, if there is one.
    pub(crate) fn end(&self) {
        if self.0.term.borrow().is_some()
            && let Some(term) = self.0.term.send_replace(None)
        {
            term.end();
        }
    }

    /// Waits until no work of [`run`](Self::run) is left of the terms that have ended.
    pub(crate) async fn idle(&self) {
        self.0.works.close();
        self.0.works.wait().await;
    }

    /// There will be no further term.
    pub(crate) fn close(&self) {
        self.end();
        self.0.over.cancel();
    }
}

impl Term {
    /// A number that rises from each term to the next, across all instances.
    ///
    /// Send it along with each write, and let the store refuse a number lower than one it has seen: then a write that was
    /// delayed cannot undo the work of the next leader. It is the index of Consul's log at the election (`ModifyIndex`), so it
    /// rises for as long as Consul keeps its log: a Consul that came back empty, or was set back to a snapshot, counts from
    /// lower, and a store that has seen higher refuses its leaders until what it has seen is reset by hand. A leader whose
    /// lease was over for a moment, and which nobody replaced, begins a new term with a higher number.
    #[must_use]
    pub fn fencing_token(&self) -> u64 {
        self.fencing_token
    }

    /// Whether it lasts still, by this instance's own monotonic clock. One atomic load and a look at the clock.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.lease.current().is_some()
    }

    /// Waits until it is over.
    ///
    /// Cancel safe.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// A token that is cancelled when it is over, for code that takes one.
    #[must_use]
    pub fn cancellation(&self) -> CancellationToken {
        self.ended.child_token()
    }

    /// Drives the work while the term lasts.
    async fn hold<F: Future>(&self, work: F) -> Option<F::Output> {
        let (mut work, mut ended) = (pin!(work), pin!(self.ended.cancelled()));
        std::future::poll_fn(|context| {
            // The clock first: a process that was stopped for a while wakes with a lease that is over.
            if !self.is_current() || ended.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            work.as_mut().poll(context).map(Some)
        })
        .await
    }

    fn end(&self) {
        self.lease.until.store(0, Ordering::Release);
        self.ended.cancel();
    }
}

impl Lease {
    fn nanos(base: Instant, until: Instant) -> u64 {
        u64::try_from(until.saturating_duration_since(base).as_nanos()).unwrap_or(u64::MAX)
    }

    /// The end, unless it is over. Who finds it over makes it final, so that no extension can come in between.
    fn current(&self) -> Option<u64> {
        loop {
            let until = self.until.load(Ordering::Acquire);
            if until != 0 && now().saturating_duration_since(self.base) < Duration::from_nanos(until) {
                return Some(until);
            }
            // Extended at this moment: look again.
            if until == 0 || self.until.compare_exchange(until, 0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return None;
            }
        }
    }

    /// `false` when it is over.
    fn extend(&self, until: Instant) -> bool {
        let until = Self::nanos(self.base, until);
        while let Some(now) = self.current() {
            if self.until.compare_exchange(now, until, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return true;
            }
        }
        false
    }
}

impl fmt::Debug for Leader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leader").field("name", &self.0.name).field("is_leader", &self.is_leader()).finish()
    }
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Term")
            .field("fencing_token", &self.fencing_token)
            .field("is_current", &self.is_current())
            .finish()
    }
}

impl PartialEq for Term {
    /// The same term; its lease may have been extended in between.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.lease, &other.lease)
    }
}

impl Eq for Term {}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_term_is_over_by_the_clock_before_anybody_says_so() {
        let leader = Leader::new("billing");
        assert!(!leader.is_leader());
        leader.begin(7, now() + SECOND, now());
        let term = leader.elected().await.expect("a term");
        assert_eq!(term.fencing_token(), 7);
        assert!(leader.extend(now() + 2 * SECOND));
        tokio::time::advance(SECOND).await;
        assert!(leader.is_leader() && term.is_current(), "it was extended");
        tokio::time::advance(SECOND).await;
        assert!(!leader.is_leader() && !term.is_current());
    }

    #[tokio::test(start_paused = true)]
    async fn a_term_that_is_over_is_not_extended_so_that_nobody_leads_without_work() {
        let leader = Leader::new("billing");
        leader.begin(7, now() + SECOND, now());
        let term = leader.elected().await.expect("a term");
        tokio::time::advance(SECOND).await;
        assert!(!leader.extend(now() + SECOND));
        assert!(!term.is_current() && !leader.is_leader());
        leader.begin(7, now() + SECOND, now());
        assert_ne!(leader.elected().await, Some(term), "the work begins anew with a new term");
    }

    #[tokio::test(start_paused = true)]
    async fn work_is_dropped_with_its_term_and_begins_anew_with_the_next() {
        let leader = Leader::new("billing");
        let (begun, mut begins) = tokio::sync::mpsc::channel(2);
        let run = leader.run(|term| {
            let begun = begun.clone();
            async move {
                let _ = begun.send(term.fencing_token()).await;
                if term.fencing_token() == 9 { "done" } else { std::future::pending().await }
            }
        });
        let steps = async {
            leader.begin(7, now() + SECOND, now());
            assert_eq!(begins.recv().await, Some(7));
            leader.end();
            leader.idle().await;
            leader.begin(9, now() + SECOND, now());
        };
        let (done, ()) = tokio::join!(run, steps);
        assert_eq!(done, Some("done"));
    }

    #[tokio::test(start_paused = true)]
    async fn work_is_not_polled_once_the_lease_is_over() {
        let leader = Leader::new("billing");
        leader.begin(7, now() + SECOND, now());
        let term = leader.elected().await.expect("a term");
        let worked = term.hold(async {
            tokio::time::sleep(2 * SECOND).await;
            panic!("polled after its time");
        });
        let worked: Option<()> = worked.await;
        assert_eq!(worked, None);
    }

    #[tokio::test]
    async fn nobody_waits_for_a_term_that_will_not_come() {
        let leader = Leader::new("billing");
        leader.begin(7, now() + SECOND, now());
        leader.close();
        assert_eq!(leader.elected().await, None);
        assert_eq!(leader.run(|_| async {}).await, None);
    }
}
