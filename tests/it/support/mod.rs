//! What the tests share.

pub mod account;
pub mod adopted;
pub mod catalogue;
pub mod consul;
pub mod dns;
pub mod echo;
pub mod h2;
pub mod http1;
pub mod http2;
pub mod load;
pub mod orders;
pub mod pace;
pub mod postgres;
pub mod process;
pub mod python;
pub mod raw;
pub mod replica;
pub mod scrape;
pub mod session;
pub mod shop;
pub(crate) mod telemetry;
pub(crate) mod telemetry_grpc;
pub(crate) mod telemetry_process;
pub mod witness;
