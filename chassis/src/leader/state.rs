//! What a candidate does next, and whether it leads. Pure: the time is an argument, the calls are somebody else's.
//!
//! ```text
//! no session ──created──▶ candidate ──locked──▶ leader
//!      ▲                      │ ▲                  │
//!      │                      │ └─released◀─ over ─┤
//!      └──gone, or not renewed in time─────────────┘
//! ```
//!
//! A lock has the same index for as long as one session holds it. So that each term has a token of its own, higher than all
//! before, a lock that a term was over with is released before it is tried again.
//!
//! A session counts from the moment its creation or renewal was *asked* for, so the store's own count ends later, whatever
//! the network does; and less a margin, so that work has time to end. That is all that "never two" needs, and that the store
//! gives the lock to one session at a time.
//!
//! A store that lost its data, or was set back to a snapshot, gives the lock a second time. What tells of it is that a session
//! is gone, or that an index is lower than one that was heard before it was asked for. Then nothing is locked before the
//! session's whole time has passed again: by then each leader of before has stepped down.

use std::time::{Duration, Instant};

/// The times of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timing {
    ttl: Duration,
}

impl Timing {
    pub(crate) fn of(ttl: Duration) -> Self {
        Self { ttl }
    }

    /// How long a session is relied on after it was asked for: four fifths of its time. Chosen: the fifth, 3 s of 15, is for
    /// clocks that run apart and for work that is being dropped.
    fn reliance(self) -> Duration {
        self.ttl * 4 / 5
    }

    /// How often it is renewed, as is common for leases: two renewals may be lost.
    fn renewal(self) -> Duration {
        self.ttl / 3
    }

    /// How long one call may take, so that a second one fits before the end: 3 s of 15. Never more than 5 s, as for any call:
    /// an agent that is back is not to wait behind a call that hangs.
    pub(crate) fn call_limit(self) -> Duration {
        (self.ttl / 5).min(Duration::from_secs(5))
    }

    /// How long to wait after a call that failed or a lock that was refused: half of this to the whole, 1 s of 15 and never
    /// more, so that many do not ask in step. Consul's own client waits 5 s for a lock in its delay; this is what a takeover
    /// may be late.
    fn retry(self) -> Duration {
        (self.ttl / 15).min(Duration::from_secs(1))
    }
}

/// The next call, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make a session.
    Create,
    /// Renew this one.
    Renew(String),
    /// Try to lock the key with it.
    Lock(String),
    /// Release the lock with it, and keep the session: the term that it was locked for is over.
    Release(String),
    /// Release the lock and the session: it is not relied on any more.
    Discard(String),
    /// Nothing before this time.
    Rest(Instant),
}

#[derive(Debug)]
struct Session {
    id: String,
    good_until: Instant,
    renew_at: Instant,
}

/// One candidate.
#[derive(Debug)]
pub(crate) struct Candidate {
    timing: Timing,
    session: Option<Session>,
    discarded: Option<String>,
    /// The fencing token, while it holds the lock.
    term: Option<u64>,
    /// The session may hold the lock since a term that is over: to be released before it is locked again.
    spent: bool,
    /// Another session holds the lock, as far as is known.
    held: bool,
    /// No session is made and no lock is tried before.
    try_at: Instant,
    /// No lock is tried before: a leader may be left that the store does not know of any more.
    lock_at: Instant,
    /// A session of it has ended without its doing.
    bereft: bool,
    /// The last index of the store, and when it was heard.
    known: Option<(u64, Instant)>,
}

impl Candidate {
    pub(crate) fn new(timing: Timing, now: Instant) -> Self {
        Self {
            timing,
            session: None,
            discarded: None,
            term: None,
            spent: false,
            held: false,
            try_at: now,
            lock_at: now,
            bereft: false,
            known: None,
        }
    }

    /// The fencing token and the end of the lease, if it leads.
    pub(crate) fn leads(&self, now: Instant) -> Option<(u64, Instant)> {
        let session = self.session.as_ref().filter(|session| now < session.good_until)?;
        Some((self.term?, session.good_until))
    }

    pub(crate) fn step(&mut self, now: Instant) -> Step {
        if self.session.as_ref().is_some_and(|session| now >= session.good_until) {
            self.discarded = self.forget();
            self.bereft = true;
        }
        if let Some(id) = self.discarded.take() {
            return Step::Discard(id);
        }
        let Some(session) = &self.session else {
            return if now >= self.try_at { Step::Create } else { Step::Rest(self.try_at) };
        };
        if now >= session.renew_at {
            return Step::Renew(session.id.clone());
        }
        let soonest = session.renew_at.min(session.good_until);
        let lock_at = self.try_at.max(self.lock_at);
        match self.term.is_none() && !self.held {
            // No sooner than it is locked: until then nobody else need have it.
            true if now >= lock_at && self.spent => Step::Release(session.id.clone()),
            true if now >= lock_at => Step::Lock(session.id.clone()),
            true => Step::Rest(soonest.min(lock_at)),
            false => Step::Rest(soonest),
        }
    }

    /// A session was made; it was asked for at `asked`.
    pub(crate) fn created(&mut self, id: String, asked: Instant, now: Instant) {
        let (good_until, renew_at) = (asked + self.timing.reliance(), asked + self.timing.renewal());
        self.session = Some(Session { id, good_until, renew_at });
        (self.term, self.spent) = (None, false);
        // Why the one before ended is not known. If the store had lost it, it lost it before this one was made, and that is
        // how long a leader of before may go on.
        if self.bereft {
            self.stand_back(now);
        }
    }

    /// The session was renewed; that was asked for at `asked`.
    pub(crate) fn renewed(&mut self, id: &str, asked: Instant, now: Instant) {
        if let Some(session) = self.session.as_mut().filter(|session| session.id == id) {
            // The answer came too late for the term: its lease was over, and with it the work.
            if now >= session.good_until {
                self.spent |= self.term.take().is_some();
            }
            session.good_until = session.good_until.max(asked + self.timing.reliance());
            session.renew_at = asked + self.timing.renewal();
        }
    }

    /// The store does not know the session any more.
    pub(crate) fn gone(&mut self, id: &str) {
        if self.session.as_ref().is_some_and(|session| session.id == id) {
            self.forget();
            self.bereft = true;
        }
    }

    /// The key is locked with this session; that was asked for at `asked`.
    pub(crate) fn locked(&mut self, id: &str, token: u64, asked: Instant, now: Instant) {
        let is_own = self.session.as_ref().is_some_and(|session| session.id == id);
        // Asked for before it stood back: of another history, it may be.
        if asked < self.lock_at {
            self.spent |= is_own;
            return;
        }
        // Lower than what a look has said meanwhile: it is lost again, or the store was set back.
        let is_back = self.known.is_some_and(|(index, _)| token < index);
        self.known = Some((token, now));
        if is_back {
            self.stand_back(now);
            self.spent |= is_own;
        } else if is_own {
            self.term = Some(token);
        }
    }

    /// The lock was released with this session.
    pub(crate) fn released(&mut self, id: &str) {
        if self.session.as_ref().is_some_and(|session| session.id == id) {
            self.spent = false;
        }
    }

    /// The term is over by the clock of the one who leads, although the session was renewed meanwhile.
    pub(crate) fn lapse(&mut self) {
        self.spent |= self.term.take().is_some();
    }

    /// A call failed, or the lock was refused; `random` is from 0 to 1.
    pub(crate) fn failed(&mut self, now: Instant, random: f64) {
        let again = now + self.timing.retry().mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0);
        self.try_at = again;
        if let Some(session) = self.session.as_mut().filter(|session| session.renew_at <= now) {
            session.renew_at = again;
        }
    }

    /// Who holds the lock, as the store said at `index` to a question that was sent at `sent`. An answer from before the
    /// election is no news; one with a lower index that was asked for later is from a store that was set back. Says whether
    /// it was news; if not, the store is to be asked for all that it has.
    pub(crate) fn seen(&mut self, holder: Option<&str>, index: u64, sent: Instant, now: Instant) -> bool {
        let own = self.session.as_ref().map(|session| session.id.as_str());
        let is_own = holder.is_some() && holder == own;
        self.held = holder.is_some() && !is_own;
        if let Some((known, heard)) = self.known
            && index < known
        {
            if sent < heard {
                return false;
            }
            self.stand_back(now);
        } else if !is_own {
            self.lapse();
        }
        self.known = Some((index, now));
        true
    }

    /// Leads no more, and locks nothing while a leader of before may go on.
    fn stand_back(&mut self, now: Instant) {
        self.lapse();
        self.lock_at = now + self.timing.ttl;
    }

    /// It is not known who holds the lock.
    pub(crate) fn unseen(&mut self) {
        self.held = false;
    }

    /// Gives the session up, to be released; it leads no more.
    pub(crate) fn resign(&mut self) -> Option<String> {
        self.forget().or(self.discarded.take())
    }

    fn forget(&mut self) -> Option<String> {
        (self.term, self.spent) = (None, false);
        self.session.take().map(|session| session.id)
    }
}

#[cfg(test)]
mod tests;
