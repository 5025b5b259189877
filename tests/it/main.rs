//! Integration tests: real sockets, real signals, real clients. `cargo xtask test` brings what they need.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub, reason = "tests")]

mod config_identity;
mod docs_readme;
mod support;
