//! Whom the shop asks what is in stock, and how it did that before: one address, one attempt, a time-out.

use std::time::Duration;

use axum::{body::Body, http::Uri};
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use crate::{BoxError, Count};

/// Somebody who knows what is in stock.
pub trait Stock: Send + Sync + 'static {
    /// How many of an article there are.
    fn count(&self, sku: &str) -> impl Future<Output = Result<u32, BoxError>> + Send;
}

/// The inventory, asked over HTTP.
#[derive(Debug)]
pub struct PlainStock {
    address: String,
    client: Client<HttpConnector, Body>,
}

impl PlainStock {
    /// The one at this address.
    #[must_use]
    pub fn new(address: &str) -> Self {
        Self { address: address.to_owned(), client: Client::builder(TokioExecutor::new()).build_http() }
    }
}

impl Stock for PlainStock {
    async fn count(&self, sku: &str) -> Result<u32, BoxError> {
        let uri: Uri = format!("http://{}/stock/{sku}", self.address).parse()?;
        let asked = async {
            let answer = self.client.get(uri).await?;
            let status = answer.status();
            let body = answer.into_body().collect().await?.to_bytes();
            if !status.is_success() {
                return Err(BoxError::from(format!("the inventory answered {status}")));
            }
            let Count { count, .. } = serde_json::from_slice(&body)?;
            Ok(count)
        };
        tokio::time::timeout(Duration::from_secs(1), asked).await?
    }
}
