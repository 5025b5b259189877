//! The circuit breaker of one endpoint.

pub mod config;
