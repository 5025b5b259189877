//! `[consul]`: the agent, and how this instance is registered with it.

use crate::{
    config::{Duration, Secret},
    tls::TlsConfig,
};

/// The Consul agent beside this instance.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConsulConfig {
    /// The agent's HTTP address. `CONSUL_HTTP_ADDR` sets it. Default as Consul's own tools have it.
    pub address: String,
    /// The ACL token. `CONSUL_HTTP_TOKEN` sets it, `CONSUL_HTTP_TOKEN_FILE` the file to read it from.
    pub token: Option<Secret<String>>,
    /// The datacenter; the agent's own when unset.
    pub datacenter: Option<String>,
    /// The namespace (Consul Enterprise).
    pub namespace: Option<String>,
    /// The admin partition (Consul Enterprise).
    pub partition: Option<String>,
    /// TLS towards the agent.
    pub tls: TlsConfig,
    /// How this instance's registration is checked.
    pub check: CheckConfig,
    /// Settings from Consul's key-value store.
    pub kv: KvConfig,
}

/// How Consul learns whether this instance is ready.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CheckConfig {
    /// Who asks whom.
    pub kind: CheckKind,
    /// How long the agent believes the last word of this instance (`ttl`); it is renewed after a third of it. Default as
    /// Kratos'.
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "1h"))]
    pub ttl: Duration,
    /// How often the agent asks (`http`, `grpc`). Default as Spring Cloud Consul's.
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "1h"))]
    pub interval: Duration,
    /// How long an answer may take (`http`, `grpc`).
    #[schemars(extend("x-minimum" = "100ms", "x-maximum" = "1m"))]
    pub timeout: Duration,
    /// After how long in critical state the agent forgets this instance, which happens when it died without a word. Consul
    /// itself rounds up to a minute. Default as Kratos'.
    #[schemars(extend("x-minimum" = "1m", "x-maximum" = "168h"))]
    pub deregister_after: Duration,
}

/// Who asks whom whether this instance is ready.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// This instance tells the agent, at once when its readiness changes.
    #[default]
    Ttl,
    /// The agent asks `/readyz`.
    Http,
    /// The agent asks `grpc.health.v1`.
    Grpc,
}

/// Settings from Consul's key-value store, between the files and the environment.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KvConfig {
    /// Whether settings are read from there, and followed.
    pub enabled: bool,
    /// The folder of all services' settings. Default as Spring Cloud Consul's.
    pub prefix: String,
    /// Whether a start without Consul is refused. When not, the service starts with what it has, and is degraded until Consul
    /// is there.
    pub required: bool,
    /// How long the start waits for Consul. Chosen: an agent beside the instance answers at once, or is being restarted.
    #[schemars(extend("x-minimum" = "100ms", "x-maximum" = "10m"))]
    pub wait: Duration,
}

impl Default for ConsulConfig {
    fn default() -> Self {
        Self {
            address: "http://127.0.0.1:8500".to_owned(),
            token: None,
            datacenter: None,
            namespace: None,
            partition: None,
            tls: TlsConfig::default(),
            check: CheckConfig::default(),
            kv: KvConfig::default(),
        }
    }
}

impl Default for CheckConfig {
    fn default() -> Self {
        Self {
            kind: CheckKind::Ttl,
            ttl: Duration::from_secs(20),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            deregister_after: Duration::from_secs(600),
        }
    }
}

impl Default for KvConfig {
    fn default() -> Self {
        Self { enabled: false, prefix: "config".to_owned(), required: true, wait: Duration::from_secs(10) }
    }
}
