//! Where other instances are, and how they learn where this one is.
//!
//! A [`Target`] says where to look: `consul://inventory?tag=v2`, `dns://inventory.internal:8080`,
//! `static://10.0.0.1:8080,10.0.0.2:8080`, `memory://inventory`. A [`Resolver`] follows what it finds there, a
//! [`Registrar`] keeps this instance's own entry true. Both are small, so that another registry is an adapter.

mod config;
#[cfg(feature = "dns")]
mod dns;
mod endpoint;
mod memory;
mod progress;
pub(crate) mod registration;
mod static_list;
mod target;

use std::{fmt, pin::Pin, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

#[cfg(feature = "dns")]
pub use self::dns::DnsResolver;
pub use self::{
    config::{DiscoveryConfig, RegistryKind},
    endpoint::{Endpoint, EndpointHealth, Freshness, Refresh, Resolution, Updates},
    memory::{Memory, MemoryResolver},
    progress::{Progress, ProgressState},
    static_list::StaticList,
    target::{NameServer, Target, TargetError, TargetKind},
};

/// The least time between two questions to a source that failing connections ask for: 5 s, as often as Envoy's clusters ask
/// DNS all the time. gRPC leaves 30 s, in which an instance that has moved is not found. So that a fleet does not ask in step,
/// up to a tenth is added by chance.
pub(crate) const REFRESH_APART: Duration = Duration::from_secs(5);

/// A future that somebody else owns and drives.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Follows the endpoints of one target.
pub trait Resolver: fmt::Debug + Send + Sync + 'static {
    /// Follows the endpoints until the future is dropped, telling each change. The one who asked for it drives it: the
    /// future spawns nothing.
    ///
    /// When the source is not to be had, it tells so by [`Updates::lost`], and the last known list stays in force. It tries
    /// again by itself, with a growing, jittered wait. A source that is polled also asks again when [`Updates::asked`] says so,
    /// with a limit of its own.
    fn follow(&self, updates: Updates) -> Task;
}

/// Keeps this instance's entry in one registry true.
pub trait Registrar: fmt::Debug + Send + Sync + 'static {
    /// Registers, and keeps the entry's check at `standing` until `stop` is cancelled; then takes the entry out and ends.
    ///
    /// It registers again by itself when the registry has forgotten the instance. The future spawns nothing.
    fn keep(&self, registration: Registration, standing: watch::Receiver<Standing>, stop: CancellationToken) -> Task;

    /// How that goes, to be shown as a health check and as metrics. One that cannot fail need not say it.
    fn progress(&self) -> watch::Receiver<Progress> {
        watch::channel(Progress { state: ProgressState::Registered, ..Progress::default() }).1
    }
}

/// What an instance is registered as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The service's name.
    pub service: String,
    /// The instance's own id, unique for each start.
    pub id: String,
    /// Where others reach it: a host or an address. Empty: at the address of the node that the registry's agent runs on.
    pub host: String,
    /// The port of the main listener.
    pub port: u16,
    /// Tags, for targets that ask for one.
    pub tags: Vec<String>,
    /// What else others may know: version, zone, protocol.
    pub metadata: std::collections::BTreeMap<String, String>,
    /// How much of the traffic it takes in proportion to others. 1 is usual.
    pub weight: u32,
}

/// How this instance stands, as its registry is to show it: the readiness of the health registry, in Consul's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// How it is.
    pub health: EndpointHealth,
    /// Which checks are not up, in one line.
    pub note: String,
}
