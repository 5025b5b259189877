//! `[discovery]`: whether and how this instance is announced to others.

use std::collections::BTreeMap;

/// Whether and how this instance is announced to others.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DiscoveryConfig {
    /// The registry that this instance is announced in.
    pub register: RegistryKind,
    /// The host or address that others reach this instance at. The address of the interface that leads to the registry when
    /// unset.
    pub host: Option<String>,
    /// The port that others reach this instance at. The main listener's when unset.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// Tags, for callers that ask for one.
    pub tags: Vec<String>,
    /// What else callers may know.
    pub metadata: BTreeMap<String, String>,
    /// The zone this instance runs in; callers in the same zone prefer it. Also the zone that this instance's own calls
    /// prefer.
    pub zone: Option<String>,
    /// How much of the traffic this instance takes, in proportion to others.
    #[schemars(range(min = 1, max = 65535))]
    pub weight: u32,
}

/// A registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RegistryKind {
    /// Nowhere.
    #[default]
    None,
    /// The Consul agent of `[consul]`.
    Consul,
    /// The list of this process, for `memory://` targets: tests and programs that run several services.
    Memory,
}

impl Default for DiscoveryConfig {
    fn default() -> Self {
        Self {
            register: RegistryKind::None,
            host: None,
            port: None,
            tags: Vec::new(),
            metadata: BTreeMap::new(),
            zone: None,
            weight: 1,
        }
    }
}
