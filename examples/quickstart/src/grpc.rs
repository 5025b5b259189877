//! The same orders over gRPC.

use chassis::prelude::*;
use tonic::{Request, Response, Status};

use crate::orders::{self, OrderError};

#[allow(missing_docs, unreachable_pub, reason = "made from proto/orders/v1/orders.proto")]
mod proto {
    tonic::include_proto!("orders.v1");
}

pub(crate) use proto::orders_server::OrdersServer;

pub(crate) const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/orders.bin"));

pub(crate) struct OrdersApi;

#[tonic::async_trait]
impl proto::orders_server::Orders for OrdersApi {
    async fn get_order(&self, request: Request<proto::GetOrderRequest>) -> Result<Response<proto::Order>, Status> {
        let id = request.into_inner().id;
        let order = orders::find(id).ok_or_else(|| OrderError::Unknown(id).into_problem().into_status())?;
        Ok(Response::new(order.into()))
    }
}

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
