//! Who are the probes of a half-open phase. Pure, and held under the breaker's lock.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It counts.
    Call,
    /// It holds one of the slots of this round of probes.
    Probe { round: u32, answered: bool },
    /// The breaker was disabled.
    Ignored,
}

/// The probes of a half-open phase. Those that end, or are dropped, free their slots for others; when the slots are
/// given out again although they were not freed, the next round begins.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) number: u32,
    pub(super) needed: u32,
    pub(super) good: u32,
    /// Under way.
    pub(super) out: u32,
    /// Of these, the ones whose answer has begun.
    pub(super) answered: u32,
    /// Slots beyond those needed, for an endpoint that is the last.
    pub(super) lent: u32,
    /// When the slots that are taken are given out again, in nanoseconds since the origin.
    pub(super) lost_at: u64,
}

impl Round {
    pub(super) fn free(&self) -> u32 {
        (self.needed + self.lent).saturating_sub(self.good + self.out)
    }

    /// Takes the probe out of the round, if it still belongs to it.
    pub(super) fn ended(&mut self, role: Role) -> bool {
        let Role::Probe { round, answered } = role else { return false };
        if round != self.number {
            return false;
        }
        self.out = self.out.saturating_sub(1);
        self.answered = self.answered.saturating_sub(u32::from(answered));
        true
    }
}
