//! Retries, and the budget that they share with hedges.
//!
//! # When
//!
//! | an attempt | is tried again |
//! | --- | --- |
//! | was never sent: no connection | always |
//! | failed: 5xx but 501 and 505; UNKNOWN, INTERNAL, UNAVAILABLE, DATA_LOSS, DEADLINE_EXCEEDED | when the call is idempotent |
//! | timed out | when the call is idempotent, at twice the price |
//! | was turned away: 429, RESOURCE_EXHAUSTED | when the call is idempotent and the endpoint said after how long |
//! | was held back on this side: `circuit_open`, `no_endpoints` | never: it is told at once |
//!
//! It is not tried again when all its attempts were made (an attempt that nobody has seen does not count while there is another
//! endpoint, up to eight), when the wait would end at the call's deadline or after it, when
//! the request being served is itself a retry ([`UpstreamAttempt`](super::UpstreamAttempt)) and it was sent, when its body is
//! a stream, or when the budget is spent. The last answer or error is then handed on as it is, its body unread. A retry that
//! is not sent after all, because its endpoint cannot be reached or is held back, does not count: the answer before it is
//! handed on, from memory; of one longer than 8 KiB only the status is left, in an error. A gRPC answer is committed once a
//! head without a status came (gRFC A6).
//!
//! # Wait
//!
//! Full jitter: before retry `n` a random part of `min(max_backoff, backoff × 2^(n-1))`, as Envoy has it; of the ways to
//! spread colliding clients it makes the fewest calls ("Exponential Backoff And Jitter", AWS Architecture Blog). An
//! endpoint that says when it is ready is taken at its word: `grpc-retry-pushback-ms` to the millisecond, after which the
//! back-off starts anew, and what is no number forbids the retry (gRFC A6); `Retry-After`, in seconds or as a date, and
//! `google.rpc.RetryInfo` in the details of a gRPC status not before (RFC 9110, section 10.2.3), with the jitter on top. A
//! push-back is about the call, wherever it goes. The other two are one instance's word about itself: the balancer keeps
//! calls from it for so long, and when an endpoint is available that the call was not sent to yet, the retry goes there after
//! the jitter alone. While it waits, what is left of a small failed answer is read, so that its connection can be used again.
//!
//! # Budget
//!
//! Each call pays in 1, each retry or hedge costs `1 / budget_ratio`, and what is paid in counts for ten seconds: the
//! bucket of Finagle and Linkerd. Over each ten seconds that end with a retry
//!
//! ```text
//! retries + hedges + retries after a time-out  ≤  max(budget_ratio × calls, budget_min × 10 s)
//! ```
//!
//! so a retry after a time-out is paid twice, as AWS's SDKs do. Laid end to end such windows hold all retries: without a
//! minimum there are never more than `budget_ratio` for each call, whatever happens when, and above `budget_min /
//! budget_ratio` calls a second the minimum adds nothing. There we differ from Finagle, which adds the minimum to the
//! share: a busy client would go beyond its ratio. What a quiet time has saved may be spent at once, so that a failing
//! instance costs no call; a storm then has to wait until that has left the window.
//!
//! The check is made after all others, so that a retry that is not made costs nothing.

mod budget;
pub mod config;
mod drain;
mod layer;
mod policy;

pub(crate) use self::layer::{Made, mark};
pub use self::{
    budget::{BUDGET_TTL, Budget, BudgetCounts},
    config::RetryConfig,
    drain::RetryBody,
    layer::{Retry, RetryCounts, RetryFuture, RetryLayer, RetryService},
};

#[cfg(test)]
mod tests;
