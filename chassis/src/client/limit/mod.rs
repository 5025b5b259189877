//! The bulkhead of one destination: how many calls to it may be under way at once.
//!
//! So that one destination that hangs does not take every task, buffer and connection of this instance (Nygard, "Release
//! It!", bulkheads). By Little's law the calls under way are rate × time: at 500 calls a second of 20 ms there are ten, and
//! when the time becomes 10 s there would be five thousand; the default of 1,024 is Envoy's.
//!
//! A call that finds no place waits in a queue, first come first served, for as long as its time lasts, and is then
//! `deadline_exceeded`, never sent. When the queue is full too it is `bulkhead_full` at once. A call has one place,
//! whatever its retries and hedges, from before it is sent until its answer was read to the end or dropped.
//!
//! Both numbers change while in use: new places go to those who wait, fewer are reached as calls end.

pub mod config;
mod layer;
mod state;

pub use self::{
    config::LimitConfig,
    layer::{Held, LimitFuture, LimitLayer, LimitService},
    state::{Limit, LimitCounts, Place},
};

#[cfg(test)]
mod tests;
