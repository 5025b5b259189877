//! Integration tests: real sockets, real signals, real clients. `cargo xtask test` brings what they need.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub, reason = "tests")]

mod audit_log;
mod config_identity;
mod config_reload;
mod deadline_grpc;
mod deadline_http;
mod docs_readme;
mod grpc_foreign_client;
mod grpc_stack;
mod grpc_web;
mod lifecycle_background;
mod lifecycle_drain;
mod lifecycle_signals;
mod log_access;
mod log_filter;
mod log_lines;
mod metrics_scrape;
mod metrics_server;
mod process_commands;
mod process_refusals;
mod rejection_claims;
mod rejection_http;
mod server_admin;
mod server_connections;
mod server_faults;
mod server_http2;
mod server_input;
mod server_limits;
mod support;
mod telemetry_calls_out;
mod telemetry_export;
mod telemetry_sampling;
mod telemetry_span;
mod telemetry_trace;
mod telemetry_w3c;
