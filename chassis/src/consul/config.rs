//! `[consul]`: the agent, and how this instance is registered with it.

use crate::{
    config::{Duration, Secret},
    tls::TlsConfig, // floor: settings are values, and lie below
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
    /// TLS towards the agent. `enabled` counts also when the address says `http`, as in Consul's own tools.
    pub tls: TlsConfig,
    /// How this instance's registration is checked.
    pub check: CheckConfig,
    /// Settings from Consul's key-value store.
    pub kv: KvConfig,
    /// Leader election.
    pub leader: LeaderConfig,
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

/// Leader election by sessions, for services that ask for it (`Chassis::leader`).
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LeaderConfig {
    /// The folder of the keys: `<prefix>/leader/<service>/<name>` holds the id of the instance that leads.
    pub prefix: String,
    /// How long a session lasts without being renewed; it is renewed after a third. A leader that cannot renew it steps down
    /// after four fifths, and Consul ends it after once to twice this. Consul itself takes no less than 10 s unless its
    /// `session_ttl_min` says so. Default as Consul's own client has it.
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "24h"))]
    pub ttl: Duration,
    /// How long nobody can be elected after a session ended without giving the lock back. Not shorter than `ttl`, unless two
    /// leaders for a moment are bearable when an operator ends a session by hand. Default as Consul's.
    #[schemars(extend("x-minimum" = "0s", "x-maximum" = "1m"))]
    pub lock_delay: Duration,
}

impl Default for LeaderConfig {
    fn default() -> Self {
        let (ttl, lock_delay) = (Duration::from_secs(15), Duration::from_secs(15));
        Self { prefix: "chassis".to_owned(), ttl, lock_delay }
    }
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
            leader: LeaderConfig::default(),
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

#[cfg(test)]
mod tests {
    use crate::{
        chassis::{Purpose, load},
        config::Sources,
        settings::NoSettings,
    };

    fn loaded(env: &[(&str, &str)]) -> super::ConsulConfig {
        let env = env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let sources = Sources { dir: "no-such-folder".into(), env, ..Sources::default() };
        let (settings, _) = load::<NoSettings>(&crate::cli::with_standard_variables(sources), Purpose::Serve).unwrap();
        settings.value().consul.clone()
    }

    #[test]
    fn the_variables_of_consuls_own_tools_count() {
        let folder = std::env::temp_dir().join(format!("chassis-consul-token-{}", std::process::id()));
        std::fs::write(&folder, "from-the-file\n").unwrap();
        let file = folder.to_str().unwrap();
        let token = |env: &[(&str, &str)]| loaded(env).token.map(|token| token.expose().clone());
        assert_eq!(token(&[("CONSUL_HTTP_TOKEN", "plain")]).as_deref(), Some("plain"));
        assert_eq!(token(&[("CONSUL_HTTP_TOKEN_FILE", file)]).as_deref(), Some("from-the-file"));
        // As Consul's tools have it: the file wins. Ours wins over both.
        let both = [("CONSUL_HTTP_TOKEN", "plain"), ("CONSUL_HTTP_TOKEN_FILE", file)];
        assert_eq!(token(&both).as_deref(), Some("from-the-file"));
        let ours = [("CHASSIS_CONSUL__TOKEN", "ours"), ("CONSUL_HTTP_TOKEN_FILE", file)];
        assert_eq!(token(&ours).as_deref(), Some("ours"));
        std::fs::remove_file(folder).unwrap();

        let config = loaded(&[
            ("CONSUL_HTTP_ADDR", "consul.internal:8501"),
            ("CONSUL_HTTP_SSL", "true"),
            ("CONSUL_CACERT", "/ca.pem"),
            ("CONSUL_TLS_SERVER_NAME", "server.dc1.consul"),
            ("CONSUL_NAMESPACE", "shop"),
        ]);
        assert_eq!(config.address, "consul.internal:8501");
        assert!(config.tls.enabled);
        assert_eq!(config.tls.ca.as_deref(), Some(std::path::Path::new("/ca.pem")));
        assert_eq!(config.tls.server_name.as_deref(), Some("server.dc1.consul"));
        assert_eq!(config.namespace.as_deref(), Some("shop"));
    }

    #[test]
    fn an_address_that_is_none_is_told_by_its_key() {
        for address in ["unix:///run/consul.sock", "ftp://a:1", "http://"] {
            let config = super::ConsulConfig { address: address.to_owned(), ..Default::default() };
            let error = crate::consul::Consul::new(&config).unwrap_err().to_string();
            assert!(error.contains("consul.address"), "{error}");
        }
        for address in ["http://user:pass@consul:8500", "user:pass@consul", "http://a/user:pass@b"] {
            let config = super::ConsulConfig { address: address.to_owned(), ..Default::default() };
            let error = crate::consul::Consul::new(&config).unwrap_err().to_string();
            assert!(error.starts_with("consul.address: found credentials") && !error.contains("pass"), "{error}");
        }
        for address in ["http://consul:99999", "consul:99999", "consul:", "http://consul:0", "http://consul:8500?dc=a"]
        {
            let config = super::ConsulConfig { address: address.to_owned(), ..Default::default() };
            let error = crate::consul::Consul::new(&config).map(|_| ()).expect_err(address).to_string();
            assert!(error.starts_with("consul.address: found"), "{error}");
        }
    }

    fn whole(address: &str, secure: bool) -> String {
        let tls = crate::tls::TlsConfig { enabled: secure, ..Default::default() };
        let config = super::ConsulConfig { address: address.to_owned(), tls, ..Default::default() };
        crate::consul::Consul::new(&config).unwrap().address().to_owned()
    }

    #[test]
    fn an_address_may_leave_its_scheme_out() {
        assert_eq!(whole("127.0.0.1:8500", false), "http://127.0.0.1:8500");
        assert_eq!(whole("[::1]:8500", false), "http://[::1]:8500");
        assert_eq!(whole("consul", false), "http://consul");
    }

    #[cfg(feature = "tls")]
    #[test]
    fn tls_that_is_asked_for_is_in_the_address() {
        assert_eq!(whole("consul:8501", true), "https://consul:8501");
        assert_eq!(whole("http://consul:8500/", true), "https://consul:8500");
    }
}
