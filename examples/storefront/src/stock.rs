//! The inventory, as this service asks it: over HTTP by a trait, over gRPC by what tonic has made.

use chassis::client::{CallError, Channel, client};
use inventory::proto::{ReserveRequest, Wanted, inventory_client::InventoryClient};
use serde::Deserialize;
use tonic::Code;

use crate::shop::OrderError;

/// How many of an article there are, when that is known.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Stock {
    pub(crate) count: Option<u32>,
    pub(crate) told_by: Option<String>,
}

/// The inventory over HTTP.
#[client]
pub(crate) trait StockApi: Send + Sync {
    /// How many of an article there are.
    #[get("/stock/{sku}", timeout = "1s")]
    #[fallback(unknown)]
    async fn stock(&self, sku: &str) -> Result<Stock, CallError>;

    /// A shop that cannot see its shelves still shows its prices.
    async fn unknown(&self, _sku: &str) -> Result<Stock, CallError> {
        Ok(Stock { count: None, told_by: None })
    }
}

/// The inventory over gRPC.
#[derive(Debug, Clone)]
pub(crate) struct Reservations(InventoryClient<Channel>);

impl Reservations {
    pub(crate) fn new(channel: Channel) -> Self {
        Self(InventoryClient::new(channel))
    }

    /// Takes some of an article out; gives how many are left, and who said so. Nothing can stand in for this.
    pub(crate) async fn reserve(&self, key: &str, sku: &str, count: u32) -> Result<(u32, String), OrderError> {
        let wanted = Some(Wanted { count });
        let request = ReserveRequest { sku: sku.to_owned(), key: key.to_owned(), wanted };
        match self.0.clone().reserve(request).await {
            Ok(stock) => {
                let stock = stock.into_inner();
                Ok((stock.count, stock.told_by))
            }
            Err(status) if status.code() == Code::NotFound => Err(OrderError::Unknown(sku.to_owned())),
            Err(status) if status.code() == Code::Aborted => Err(OrderError::NotEnough(sku.to_owned())),
            Err(status) => Err(OrderError::Inventory(status)),
        }
    }
}
