//! Consul: registration, discovery, settings, leadership.

pub(crate) mod agent;
pub(crate) mod client;
pub(crate) mod config;
mod cursor;
mod health;
pub(crate) mod kv;
pub(crate) mod leader;
mod memory;
mod registrar;
mod resolver;
pub(crate) mod session;

pub use self::{
    agent::{AgentCheck, AgentCheckKind, AgentService, Weights},
    client::{Consul, ConsulAnswer, ConsulError},
    config::{CheckConfig, CheckKind, ConsulConfig, KvConfig, LeaderConfig},
    cursor::Cursor,
    registrar::ConsulRegistrar,
    resolver::{ConsulQuery, ConsulResolver},
};
