//! The service's own settings: the section `[app]`. `config/default.toml` lists them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The service's own settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// The word before the name.
    #[schemars(length(min = 1), extend("x-reloadable" = true))]
    pub(crate) greeting: String,
    /// The longest name that is greeted.
    ///
    /// Default 64: longer ones are seldom names.
    #[schemars(range(min = 1, max = 1000), extend("x-unit" = "characters", "x-reloadable" = true))]
    pub(crate) longest_name: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { greeting: "Hello".to_owned(), longest_name: 64 }
    }
}
