//! The service's own settings: the section `[app]` of the configuration.

use chassis::config::{Duration, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The service's own settings.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Where orders are kept.
    pub(crate) store: StoreSettings,
}

/// Where orders are kept.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StoreSettings {
    /// The database: `sqlite:orders.db?mode=rwc` for a file that is made when it is missing,
    /// `postgres://user:password@host/database` for a server. A secret, as a password may be in it.
    ///
    /// Default `sqlite::memory:`, so that the service starts on its own and leaves nothing behind: orders are gone when it
    /// ends. Only the profile `dev` starts with it.
    pub(crate) url: Secret<String>,
    /// How many connections are open at most. SQLite in memory has one.
    ///
    /// Default 10, as sqlx has it: a database has far fewer workers than a service has requests.
    #[schemars(range(min = 1, max = 1000), extend("x-unit" = "connections"))]
    pub(crate) connections: u32,
    /// How long a request waits for a connection, and a writer for SQLite's lock, before it is told that the store is
    /// out of reach.
    ///
    /// Default 500 ms: below the rest of `health.timeout`, so that the check says what is wrong.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "1m"))]
    pub(crate) wait: Duration,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self { url: Secret::new("sqlite::memory:".to_owned()), connections: 10, wait: Duration::from_millis(500) }
    }
}
