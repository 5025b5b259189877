//! Retries, and the budget that they share with hedges.

pub mod config;
