//! Hedging: a second attempt beside one that takes long.

pub mod config;
