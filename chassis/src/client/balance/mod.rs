//! The balancer of one destination.

pub mod config;
