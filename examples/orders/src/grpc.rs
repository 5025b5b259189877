//! The messages of gRPC, and how they become the domain's types and back. What is wrong with a message beyond its types is
//! found by the rules of the domain's types, as it is over HTTP.

use chassis::service::Fields;

use crate::domain::{Item, ListQuery, NewOrder, Order, Page, Payment, Status};

#[allow(missing_docs, unreachable_pub, reason = "made from proto/orders/v1/orders.proto")]
pub(crate) mod proto {
    tonic::include_proto!("orders.v1");
}

pub(crate) const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/orders.bin"));

impl From<proto::PlaceOrderRequest> for NewOrder {
    fn from(message: proto::PlaceOrderRequest) -> Self {
        let items = message.items.into_iter().map(Into::into).collect();
        Self { key: message.key.into(), customer: message.customer.into(), items }
    }
}

impl TryFrom<proto::ListOrdersRequest> for ListQuery {
    type Error = Fields;

    fn try_from(message: proto::ListOrdersRequest) -> Result<Self, Fields> {
        let mut fields = Fields::new();
        let status = fields.optional("status", message.status);
        let after = fields.optional("after", message.after);
        let (Some(status), Some(after)) = (status, after) else { return Err(fields) };
        Ok(Self { status, customer: message.customer.map(Into::into), after, limit: message.limit })
    }
}

impl From<proto::Payment> for Payment {
    fn from(message: proto::Payment) -> Self {
        Self { cents: message.cents }
    }
}

impl From<proto::Item> for Item {
    fn from(message: proto::Item) -> Self {
        Self { sku: message.sku.into(), count: message.count, cents: message.cents }
    }
}

impl TryFrom<i32> for Status {
    type Error = String;

    fn try_from(number: i32) -> Result<Self, String> {
        match proto::OrderStatus::try_from(number) {
            Ok(proto::OrderStatus::Placed) => Ok(Self::Placed),
            Ok(proto::OrderStatus::Paid) => Ok(Self::Paid),
            Ok(proto::OrderStatus::Shipped) => Ok(Self::Shipped),
            Ok(proto::OrderStatus::Cancelled) => Ok(Self::Cancelled),
            Ok(proto::OrderStatus::Unspecified) | Err(_) => {
                Err(format!("found {number}, expected an OrderStatus, 1–4"))
            }
        }
    }
}

impl From<Status> for proto::OrderStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Placed => Self::Placed,
            Status::Paid => Self::Paid,
            Status::Shipped => Self::Shipped,
            Status::Cancelled => Self::Cancelled,
        }
    }
}

impl From<Order> for proto::Order {
    fn from(order: Order) -> Self {
        let items = order.items.into_iter().map(|item| proto::Item {
            sku: item.sku.to_string(),
            count: item.count,
            cents: item.cents,
        });
        Self {
            id: order.id.to_string(),
            customer: order.customer.to_string(),
            items: items.collect(),
            total: order.total,
            status: proto::OrderStatus::from(order.status).into(),
            placed_at: order.placed_at.to_string(),
            version: order.version,
        }
    }
}

impl From<Page> for proto::ListOrdersResponse {
    fn from(page: Page) -> Self {
        let orders = page.orders.into_iter().map(Into::into).collect();
        Self { orders, next: page.next.map(|next| next.to_string()) }
    }
}
