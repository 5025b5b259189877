//! What the service needs of a store.

use std::error::Error;

use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Name, Order, OrderEvent, OrderId, Status};

/// How many orders a page holds unless the caller says otherwise.
const PAGE: u32 = 20;

/// Keeps orders. Every method is one transaction: it happens as a whole or not at all.
pub(crate) trait Store: Send + Sync + 'static {
    /// Keeps a new order, unless the customer has one with this key.
    fn insert(&self, order: &Order, key: &Name) -> impl Future<Output = Result<Placed, StoreError>> + Send;

    /// The order with this id.
    fn find(&self, id: OrderId) -> impl Future<Output = Result<Option<Order>, StoreError>> + Send;

    /// Newest first, at most as many as are asked for.
    fn list(&self, query: &ListQuery) -> impl Future<Output = Result<Page, StoreError>> + Send;

    /// Keeps a changed order and the event of the change, if the stored one is still the version before. Says whether it was.
    fn update(&self, order: &Order, event: &OrderEvent) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// What happened to an order after this version, oldest first.
    fn events(&self, id: OrderId, after: u32) -> impl Future<Output = Result<Vec<OrderEvent>, StoreError>> + Send;
}

/// What became of a new order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Placed {
    /// It is kept.
    New,
    /// The customer has this one with the same key.
    Before(Order),
}

/// Which orders to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Only orders that have come this far. Default: all.
    #[garde(skip)]
    pub(crate) status: Option<Status>,
    /// Only this customer's. Default: everybody's.
    #[garde(dive)]
    pub(crate) customer: Option<Name>,
    /// Only orders behind this one: the `next` of the page before. Default: from the newest on.
    #[garde(skip)]
    pub(crate) after: Option<OrderId>,
    /// At most so many, 1 to 100. Default: 20.
    #[garde(range(min = 1, max = 100))]
    pub(crate) limit: Option<u32>,
}

impl ListQuery {
    /// How many orders a page holds.
    pub(crate) fn limit(&self) -> u32 {
        self.limit.unwrap_or(PAGE)
    }
}

/// Where to go on following an order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventsQuery {
    /// Only what happened after this version of the order. Default: from the start.
    pub(crate) after: Option<u32>,
}

/// Some orders, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Page {
    /// The orders.
    pub(crate) orders: Vec<Order>,
    /// What to ask for as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<OrderId>,
}

impl Page {
    /// A page of the first orders; one more than fits says that there is a next page.
    pub(crate) fn of(mut orders: Vec<Order>, limit: u32) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = orders.len() > limit;
        orders.truncate(limit);
        Self { next: orders.last().filter(|_| more).map(|order| order.id), orders }
    }
}

/// Why the store could not do it. What it says is for the log, never for a caller.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// It is out of reach, or too busy: later it may work.
    #[error("the store cannot be reached now")]
    Unreachable(#[source] Box<dyn Error + Send + Sync>),
    /// It answered that it cannot, or what it holds makes no sense.
    #[error("the store refused")]
    Refused(#[source] Box<dyn Error + Send + Sync>),
}

impl StoreError {
    /// Whether it may work later.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}
