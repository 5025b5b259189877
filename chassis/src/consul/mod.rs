//! Consul: registration, discovery, settings, leadership.

mod client;
pub(crate) mod config;
mod cursor;

pub use self::{
    client::{Consul, ConsulAnswer, ConsulError},
    config::{CheckConfig, CheckKind, ConsulConfig, KvConfig},
    cursor::Cursor,
};
