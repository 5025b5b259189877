//! The messages of `proto/inventory/v1/inventory.proto`, and how the domain's types become them and back.

use crate::shelf::{Stock, Wanted};

#[allow(missing_docs, clippy::all, reason = "made from proto/inventory/v1/inventory.proto")]
pub mod proto {
    tonic::include_proto!("inventory.v1");
}

/// For reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/inventory.bin"));

impl From<proto::Wanted> for Wanted {
    fn from(message: proto::Wanted) -> Self {
        Self { count: message.count }
    }
}

impl From<Stock> for proto::Stock {
    fn from(stock: Stock) -> Self {
        Self { sku: stock.sku, count: stock.count, told_by: stock.told_by }
    }
}
