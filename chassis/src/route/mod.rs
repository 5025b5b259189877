//! What a route asks for beyond its handler, enforced where axum has matched: time, size, concurrency, `Accept`.
//!
//! One layer stands on each route. It tells the observer which route answers, and holds the request to the route's
//! [`RoutePolicy`](crate::service::RoutePolicy). In this order, each for a reason:
//!
//! 1. the mark, so that every refusal below is counted, traced and logged under the route's template,
//! 2. `timeout`: narrows the request's deadline, which the deadline layer keeps,
//! 3. `Accept`: 406 when the caller excludes the one media type that the route answers with; it costs a look at a header,
//! 4. `body_limit`: 413 by the announced length, later while the body is read,
//! 5. `concurrency`: last, so that a permit counts work that is really going to be done.
//!
//! `deprecated` is told on every answer of the route, by whomever it was given; the observer adds its headers on the way
//! out. `idempotent` decides what a problem says of a retry.
//!
//! A permit of `concurrency` is held until the answer's body has ended or was dropped, not only until its head: a stream
//! does its work in its body. So count resilience4j (its reactive operators release at the terminal signal) and Envoy (a
//! request is active until its stream is complete); tower's `ConcurrencyLimit` ends with the head. Nobody waits for a
//! permit: a queue in front of a busy handler only adds latency to work that is late already.
//!
//! Only routes that are described have a policy. A plain axum `Router` is marked, and that is all.

mod accept;
mod body;
mod layer;
mod policies;
pub(crate) mod state;

pub use layer::{ResponseFuture, Route, RouteLayer};
pub(crate) use policies::Policies;
