//! Signs of life, which end a wait before its time.

use std::{sync::atomic::Ordering, time::Instant};

use super::{Core, Phase, Round};

impl Core {
    /// Ends a wait that runs. Says whether one did.
    pub(in crate::client::breaker) fn probe_now(&self, now: Instant) -> bool {
        let _held = self.held();
        let waits = self.word().phase() == Phase::Open && self.left(now).is_some();
        if waits {
            self.until_nanos.store(self.nanos(now), Ordering::Release);
        }
        waits
    }

    /// How often it has opened since it was closed the last time; 0 while it is closed.
    pub(in crate::client::breaker) fn openings(&self) -> u32 {
        self.held().machine.opened()
    }

    /// Closed, it becomes half-open in the place of one that has opened so often.
    pub(in crate::client::breaker) fn take_over(&self, openings: u32, now: Instant) {
        let mut held = self.held();
        if openings == 0 || self.word().phase() != Phase::Closed {
            return;
        }
        held.machine.take_over(openings);
        held.round = Round { needed: self.settings.load().probes.max(1), ..Round::default() };
        held.wait = self.settings.load().open_wait.get();
        self.until_nanos.store(self.nanos(now), Ordering::Release);
        self.cap_nanos.store(self.nanos(now), Ordering::Release);
        self.free.store(held.round.free(), Ordering::Release);
        self.publish(&mut held, None, None);
    }
}
