//! The bulkhead of one destination.

pub mod config;
