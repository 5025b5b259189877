//! Hedging: a second attempt beside one that takes long.
//!
//! After "The Tail at Scale" (Dean and Barroso, 2013): a call that has not been answered within the time that the
//! `percentile` of calls take is sent a second time, to another endpoint; the first good answer counts, the other attempt
//! is dropped. At 0.99 it asks 1 % more of the destination, and a slow call takes two usual times instead of a
//! hundredfold one.
//!
//! # Delay
//!
//! The percentile of what calls of this destination took of late, not less than `min_delay`. The times lie in a histogram
//! with eight buckets to each doubling, so the delay is never too short and at most an eighth too long; what is older than
//! 30 s is forgotten, and a second passes before new times change the delay. It needs [`HEDGE_MIN_SAMPLES`] answers, or
//! more when the percentile does, before anything is hedged. Failures are not timed. A call that its hedge answered counts
//! with all the time that it took, so that hedges do not shorten the delay.
//!
//! # What is hedged
//!
//! Idempotent calls whose body is in memory, unless the request being served is itself a retry
//! ([`UpstreamAttempt`](super::UpstreamAttempt)), the hedge would be sent after the deadline, or the
//! [budget](super::retry::Budget) is spent: hedges and retries of a destination draw on one.
//!
//! # With retries inside
//!
//! Each leg, the call and its hedge, runs the whole stack of retries. So
//! - a leg that fails before the hedge is sent has had its retries already; its failure is the call's, and no hedge follows,
//! - while one leg waits to try again, the other may be sent and answer,
//! - both legs count their attempts together: `retry.attempts` is for the call, and with 3 the call and its hedge have one
//!   retry between them. The hedge itself is not refused for it: retries may be off and hedges on,
//! - the call pays into the budget once, each hedge and each retry of either leg pays once,
//! - when both legs end badly, an answer is preferred to an error, and the call's own to its hedge's.

pub mod config;
mod digest;
mod layer;

pub use self::{
    config::HedgeConfig,
    layer::{HEDGE_MIN_SAMPLES, Hedge, HedgeCounts, HedgeFuture, HedgeLayer, HedgeService},
};

#[cfg(test)]
mod tests;
