//! The messages of `proto/orders/v1/orders.proto`, and how an order becomes one.

use crate::orders;

#[allow(missing_docs, unreachable_pub, reason = "made from proto/orders/v1/orders.proto")]
pub(crate) mod proto {
    tonic::include_proto!("orders.v1");
}

pub(crate) const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/orders.bin"));

impl From<orders::Order> for proto::Order {
    fn from(order: orders::Order) -> Self {
        let items =
            order.items.into_iter().map(|item| proto::Item { sku: item.sku, count: item.count, cents: item.cents });
        Self {
            id: order.id,
            customer: order.customer,
            items: items.collect(),
            total: order.total,
            status: order.status.as_str().to_owned(),
            created_at: order.created_at,
        }
    }
}
