//! The domain: what an order is, what may happen to it, and what the service needs of a store.
//!
//! Nothing here knows of HTTP, gRPC, telemetry or a database; `tests/it/orders_domain.rs` holds that. The doc comments are
//! the texts of the OpenAPI document.

mod error;
#[cfg(test)]
pub(crate) mod memory;
mod name;
mod order;
mod service;
mod store;

pub(crate) use error::OrderError;
pub(crate) use name::Name;
pub(crate) use order::{Item, NewOrder, Order, OrderEvent, OrderId, Payment, Status};
pub(crate) use service::Orders;
pub(crate) use store::{EventsQuery, ListQuery, Page, Placed, Store, StoreError};
