//! Consul: registration, discovery, settings, leadership.

mod client;
pub(crate) mod config;

pub use self::{
    client::{Consul, ConsulAnswer, ConsulError},
    config::{CheckConfig, CheckKind, ConsulConfig, KvConfig},
};
