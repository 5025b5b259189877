//! `[openapi]`: whether the service shows its document.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The OpenAPI document on the main port. Nothing of it is served when no route is described.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OpenApiConfig {
    /// Whether `GET /openapi.json` answers with the document. The command `openapi` prints it all the same.
    pub enabled: bool,
    /// Whether `GET /docs` answers with a page for people. It needs the document.
    #[cfg(feature = "docs-page")]
    pub page: bool,
}

impl Default for OpenApiConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            #[cfg(feature = "docs-page")]
            page: true,
        }
    }
}
