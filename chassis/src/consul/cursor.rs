//! Where a follower of blocking queries stands, and when it may ask again: pure rules, with the time as an argument.
//!
//! The rules for the index are those of Consul's own documentation (API, "Blocking Queries"); that any failure sets it back
//! is our own: an agent that was restarted empty counts from a lower index, and would hold a query with the old one for
//! the whole wait.

use std::{
    hash::{DefaultHasher, Hasher as _},
    time::{Duration, Instant},
};

use crate::tasks::Backoff; // floor: a pure rule of waiting

/// Queries that are answered at once start this far apart, so that a key that changes all the time costs no more than ten
/// answers a second. A lone change is seen at once all the same. Chosen.
const SPACING: Duration = Duration::from_millis(100);
/// And this much further for each MiB of the last answer. Chosen: receiving and reading one takes about 10 ms, so
/// following the largest of services takes a fifth of a core at worst.
const SPACING_PER_MIB: Duration = Duration::from_millis(50);
/// The time between queries that cannot wait, since their answers bear no index: something between takes it out. Chosen: a
/// change is seen soon, and nobody is asked in a hurry.
const UNINDEXED: Duration = Duration::from_secs(1);
/// The wait after failures in a row while Consul does not answer: up to 100 ms after the first, up to 1 s in the end, fully
/// jittered, so that many followers do not come back as one. So Consul is found again within 2 s however long it was away: one
/// wait and one connection. Chosen: go-kit begins at 10 ms; a refused connection costs the machine microseconds.
pub(super) const AWAY: Backoff = Backoff {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(1),
    // Not used: one answer ends a row of failures.
    stable_after: Duration::ZERO,
};
/// The same while it answers and refuses, or answers what cannot be used: up to 10 s, since asking again seldom helps. Chosen:
/// Consul's own `api/watch` ends at 3 min.
const REFUSING: Backoff = Backoff { longest: Duration::from_secs(10), ..AWAY };

/// Where a follower stands: see [`Consul::blocking`](super::Consul::blocking).
#[derive(Debug, Clone, Default)]
pub struct Cursor {
    /// What is waited for is newer than this; 0 asks for what there is.
    index: u64,
    /// The hash of the last answer's body.
    body: u64,
    failures: u32,
    /// Not to be asked before.
    next: Option<Instant>,
}

/// What an answer means for who follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// It may differ from the last answer.
    Changed,
    /// The wait is over, and nothing has changed.
    Same,
}

impl Cursor {
    /// A follower that knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What the next query waits for to be passed; 0: it does not wait.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// How many queries in a row have failed.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Forgets what was seen: the next query is answered at once.
    pub const fn reset(&mut self) {
        self.index = 0;
    }

    /// How long to wait before the next query.
    pub(super) fn pause(&self, now: Instant) -> Duration {
        self.next.map_or(Duration::ZERO, |next| next.saturating_duration_since(now))
    }

    /// Takes in an answer to a query that was sent at `sent`.
    ///
    /// The same index alone does not say that nothing has changed: Consul may have been set back to it. An answer without one
    /// says nothing of that.
    pub(super) fn answered(&mut self, index: Option<u64>, body: &[u8], sent: Instant) -> News {
        self.failures = 0;
        let hash = {
            let mut hasher = DefaultHasher::new();
            hasher.write(body);
            hasher.finish()
        };
        let same = std::mem::replace(&mut self.body, hash) == hash;
        let Some(index) = index else {
            self.index = 0;
            self.next = sent.checked_add(UNINDEXED);
            return News::Changed;
        };
        let per_mib = SPACING_PER_MIB.mul_f64(body.len() as f64 / f64::from(1 << 20));
        self.next = sent.checked_add(SPACING + per_mib);
        // An index of 0 would never wait: a fault of some versions that Consul's documentation warns of.
        let index = index.max(1);
        let before = std::mem::replace(&mut self.index, index);
        if index < before {
            // Another history: what was missed is not known, so all is asked for again.
            self.index = 0;
        }
        if index == before && same { News::Same } else { News::Changed }
    }

    /// What was taken in at last cannot be used: a failure at `now`, after `before` in a row.
    pub(super) fn rejected(&mut self, before: u32, now: Instant, random: f64) {
        self.failures = before;
        self.failed(now, false, random);
    }

    /// Takes in a failure at `now`. `away` says that there was no answer, or that Consul itself has failed; `random` is from 0
    /// to 1.
    pub(super) fn failed(&mut self, now: Instant, away: bool, random: f64) {
        self.index = 0;
        self.failures = self.failures.saturating_add(1);
        let backoff = if away { AWAY } else { REFUSING };
        self.next = now.checked_add(backoff.wait(self.failures, random));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn the_index_follows_the_answers_and_starts_anew_when_it_goes_back() {
        let sent = Instant::now();
        let mut cursor = Cursor::new();
        for (answer, index, news) in [
            (Some(7), 7, News::Changed),
            (Some(7), 7, News::Same),
            (Some(12), 12, News::Changed),
            // Restored from an older snapshot: ask for all of it, and then follow the new history.
            (Some(5), 0, News::Changed),
            (Some(5), 5, News::Changed),
            // An index that is none must still make the next query wait.
            (Some(0), 0, News::Changed),
            (Some(0), 1, News::Changed),
            (Some(0), 1, News::Same),
        ] {
            assert_eq!((cursor.answered(answer, b"", sent), cursor.index()), (news, index), "{answer:?}");
        }
    }

    #[test]
    fn another_body_under_the_same_index_is_news() {
        let sent = Instant::now();
        let mut cursor = Cursor::new();
        cursor.answered(Some(7), b"a", sent);
        assert_eq!(cursor.answered(Some(7), b"b", sent), News::Changed);
        assert_eq!(cursor.answered(Some(7), b"b", sent), News::Same);
    }

    #[test]
    fn an_answer_without_an_index_is_always_news_and_the_next_query_does_not_wait_but_comes_a_second_later() {
        let sent = Instant::now();
        let mut cursor = Cursor::new();
        for _ in 0..2 {
            assert_eq!((cursor.answered(None, b"a", sent), cursor.index()), (News::Changed, 0));
            assert_eq!(cursor.pause(sent), ms(1_000));
        }
    }

    #[test]
    fn any_failure_asks_for_everything_again() {
        let now = Instant::now();
        let mut cursor = Cursor::new();
        cursor.answered(Some(90), b"", now);
        cursor.failed(now, true, 1.0);
        assert_eq!(cursor.index(), 0);
        // The agent came back empty: its first index is lower, and it is no step back.
        assert_eq!(cursor.answered(Some(4), b"", now), News::Changed);
        assert_eq!((cursor.index(), cursor.failures()), (4, 0));
    }

    #[test]
    fn a_consul_that_is_away_is_asked_each_second_at_least() {
        let now = Instant::now();
        let mut cursor = Cursor::new();
        for (failure, longest) in [(1, 100), (2, 200), (4, 800), (5, 1_000), (50, 1_000), (100_000, 1_000)] {
            while cursor.failures() < failure {
                cursor.failed(now, true, 1.0);
            }
            assert_eq!(cursor.pause(now), ms(longest), "{failure}");
        }
        cursor.failed(now, true, 0.25);
        assert_eq!(cursor.pause(now), ms(250), "each draws its own");
    }

    #[test]
    fn refusals_in_a_row_wait_up_to_ten_seconds() {
        let now = Instant::now();
        let mut cursor = Cursor::new();
        for (failure, longest) in [(1, 100), (2, 200), (3, 400), (7, 6_400), (8, 10_000), (50, 10_000)] {
            while cursor.failures() < failure {
                cursor.failed(now, false, 1.0);
            }
            assert_eq!(cursor.pause(now), ms(longest), "{failure}");
        }
        cursor.failed(now, false, 0.25);
        assert_eq!(cursor.pause(now), ms(2_500));
        cursor.answered(Some(1), b"", now);
        cursor.failed(now, true, 1.0);
        assert_eq!(cursor.pause(now), ms(100), "one answer ends the row");
        let before = cursor.failures();
        cursor.answered(Some(1), b"", now);
        cursor.rejected(before, now, 1.0);
        assert_eq!((cursor.pause(now), cursor.index()), (ms(200), 0), "unless it cannot be used");
    }

    #[test]
    fn answers_at_once_are_spaced_and_a_lone_change_is_not_held_back() {
        let sent = Instant::now();
        let mut cursor = Cursor::new();
        assert_eq!(cursor.pause(sent), Duration::ZERO, "the first query");
        cursor.answered(Some(1), b"", sent);
        assert_eq!(cursor.pause(sent + ms(1)), ms(99));
        assert_eq!(cursor.pause(sent + ms(100)), Duration::ZERO);
        cursor.answered(Some(2), &vec![0; 10 << 20], sent);
        assert_eq!(cursor.pause(sent), ms(600), "ten MiB");
    }
}
