//! The root of the configuration: one section for each concern, and the service's own under `app`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    client::ClientConfig,
    config::{Defaults, Opaque},
    consul::ConsulConfig,
    discovery::DiscoveryConfig,
    health::HealthConfig,
    openapi::config::OpenApiConfig,
    server::{AdminConfig, HttpConfig},
    shutdown::ShutdownConfig,
    telemetry::{TelemetryConfig, log::LogConfig},
};

/// Everything that the chassis itself can be told.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Who the service is.
    pub service: ServiceConfig,
    /// The async runtime.
    pub runtime: RuntimeConfig,
    /// The main port: HTTP/1.1, HTTP/2 and gRPC.
    pub http: HttpConfig,
    /// The operators' port.
    pub admin: AdminConfig,
    /// Health checks.
    pub health: HealthConfig,
    /// The OpenAPI document on the main port. Nothing of it is served when no route is described.
    pub openapi: OpenApiConfig,
    /// How a stop goes.
    pub shutdown: ShutdownConfig,
    /// Logs, access log and audit log.
    pub log: LogConfig,
    /// Traces and metrics. Exporters follow the standard `OTEL_*` variables.
    pub telemetry: TelemetryConfig,
    /// The services that this one calls, by the name under which it calls them.
    pub clients: BTreeMap<String, ClientConfig>,
    /// Whether and how this instance is announced to others.
    pub discovery: DiscoveryConfig,
    /// The Consul agent.
    pub consul: ConsulConfig,
    /// The service's own settings.
    pub app: Opaque,
}

/// The settings of a service that has none of its own: any key under `app` is an error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoSettings {}

/// Who the service is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceConfig {
    /// The name in telemetry and discovery (`service.name`). The package's name when unset.
    pub name: Option<String>,
    /// The instance's own id (`service.instance.id`). Random, and so unique for each start, when unset.
    pub instance_id: Option<String>,
}

/// The async runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeConfig {
    /// How many threads run the service. 0 takes the number of cores that affinity and the cgroup's CPU quota allow.
    ///
    /// 1 runs everything on the main thread (tokio's current-thread scheduler): cheaper, and without
    /// `tokio::task::block_in_place`.
    #[schemars(range(max = 1024), extend("x-unit" = "threads"))]
    pub worker_threads: u16,
}

/// Standard variables of the ecosystem and the keys they set.
///
/// `….file` of a secret names the file that it is read from. Of two variables for one key the later counts.
pub(crate) const STANDARD_VARIABLES: [(&str, &str); 15] = [
    ("RUST_LOG", "log.filter"),
    ("OTEL_SERVICE_NAME", "service.name"),
    ("OTEL_TRACES_SAMPLER", "telemetry.sampling.sampler"),
    ("OTEL_TRACES_SAMPLER_ARG", "telemetry.sampling.ratio"),
    ("OTEL_PROPAGATORS", "telemetry.propagators"),
    ("CONSUL_HTTP_ADDR", "consul.address"),
    ("CONSUL_HTTP_TOKEN", "consul.token"),
    ("CONSUL_HTTP_TOKEN_FILE", "consul.token.file"),
    ("CONSUL_HTTP_SSL", "consul.tls.enabled"),
    ("CONSUL_CACERT", "consul.tls.ca"),
    ("CONSUL_CLIENT_CERT", "consul.tls.cert"),
    ("CONSUL_CLIENT_KEY", "consul.tls.key"),
    ("CONSUL_TLS_SERVER_NAME", "consul.tls.server_name"),
    ("CONSUL_NAMESPACE", "consul.namespace"),
    ("CONSUL_PARTITION", "consul.partition"),
];

/// The profile of a developer's machine.
pub(crate) const DEV_PROFILE: &str = "dev";
/// The profile of everything else, which has the defaults as they are.
pub(crate) const PROD_PROFILE: &str = "prod";

/// What the values are before any file is read.
pub(crate) fn defaults() -> Defaults {
    let dev = serde_json::json!({
        // A service under development talks to its own machine only, and Ctrl-C ends it at once.
        "http": { "address": "127.0.0.1:8080" },
        "admin": { "address": "127.0.0.1:8081" },
        "shutdown": { "drain_delay": "0s" },
    });
    Defaults::of(&Settings::default()).in_profile(DEV_PROFILE, dev).in_profile(PROD_PROFILE, serde_json::json!({}))
}

#[cfg(test)]
mod tests {
    use super::Settings;
    use crate::config::{ByteSize, Duration, Schema};

    /// A bound that cannot be read would be no bound at all.
    #[test]
    fn every_bound_of_a_duration_or_a_size_can_be_read() {
        fn bounds<'a>(json: &'a serde_json::Value, found: &mut Vec<&'a str>) {
            for (key, value) in json.as_object().into_iter().flatten() {
                match value.as_str() {
                    Some(text) if ["x-minimum", "x-maximum"].contains(&key.as_str()) => found.push(text),
                    _ => bounds(value, found),
                }
            }
        }
        let schema = Schema::of::<Settings>();
        let mut found = Vec::new();
        bounds(schema.as_json(), &mut found);
        assert!(found.len() > 20, "{found:?}");
        for text in found {
            assert!(text.parse::<Duration>().is_ok() || text.parse::<ByteSize>().is_ok(), "{text}");
        }
    }
}
