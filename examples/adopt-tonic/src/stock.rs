//! Whom the shop asks what is in stock: the inventory, over any channel that tonic's clients take.

use std::time::Duration;

use tonic::{
    body::Body,
    client::GrpcService,
    codegen::{Bytes, StdError},
    transport::{Channel, Endpoint},
};

use crate::BoxError;

#[allow(missing_docs, reason = "made from examples/inventory/proto/inventory/v1/inventory.proto")]
pub mod inventory {
    tonic::include_proto!("inventory.v1");
}

/// Somebody who knows what is in stock.
pub trait Stock: Send + Sync + 'static {
    /// How many of an article there are.
    fn count(&self, sku: &str) -> impl Future<Output = Result<u32, BoxError>> + Send;
}

/// The inventory, asked over gRPC.
#[derive(Debug)]
pub struct GrpcStock<C>(pub inventory::inventory_client::InventoryClient<C>);

impl<C> Stock for GrpcStock<C>
where
    C: GrpcService<Body, Error: Into<StdError>, Future: Send> + Clone + Send + Sync + 'static,
    C::ResponseBody: tonic::codegen::Body<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
{
    async fn count(&self, sku: &str) -> Result<u32, BoxError> {
        let request = inventory::GetStockRequest { sku: sku.to_owned() };
        Ok(self.0.clone().get_stock(request).await?.into_inner().count)
    }
}

/// How the inventory was reached before: one address, a time-out.
///
/// # Errors
/// The address is none.
pub fn plain_channel(address: &str) -> Result<Channel, BoxError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    Ok(endpoint.timeout(Duration::from_secs(5)).connect_lazy())
}
