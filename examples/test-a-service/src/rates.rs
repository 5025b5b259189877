//! The other service, as this one asks it.

use chassis::client::CallError;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Rate {
    pub(crate) thousandths: u64,
}

#[chassis::client]
pub(crate) trait RatesApi: Send + Sync {
    /// What a euro is worth.
    #[get("/rates/{currency}")]
    async fn rate(&self, currency: &str) -> Result<Rate, CallError>;
}
