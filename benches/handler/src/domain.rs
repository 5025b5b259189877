//! What both sides serve: the same types and the same work.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub(crate) struct Order {
    pub(crate) id: u32,
    pub(crate) customer: String,
    pub(crate) items: Vec<Item>,
    pub(crate) total: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Item {
    pub(crate) sku: String,
    pub(crate) count: u32,
    pub(crate) cents: u64,
}

#[derive(Debug, Deserialize, schemars::JsonSchema)]
pub(crate) struct NewOrder {
    pub(crate) customer: String,
    pub(crate) items: Vec<Item>,
}

#[derive(Debug, Deserialize, schemars::JsonSchema)]
pub(crate) struct Filter {
    pub(crate) customer: String,
    pub(crate) limit: Option<u32>,
}

/// Holds nothing: what a store costs would be the same on both sides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Store;

impl Store {
    /// No order above a million.
    pub(crate) fn order(self, id: u32) -> Option<Order> {
        let item = |number: u32| Item { sku: format!("a-{number}"), count: number, cents: u64::from(id) + 10 };
        (id <= 1_000_000).then(|| Order {
            id,
            customer: "customer-7".to_owned(),
            items: vec![item(1), item(2), item(3)],
            total: 182,
        })
    }

    pub(crate) fn find(self, filter: Filter) -> Order {
        Order { id: filter.limit.unwrap_or(10), customer: filter.customer, items: Vec::new(), total: 0 }
    }

    pub(crate) fn place(self, order: NewOrder) -> Order {
        let total = order.items.iter().map(|item| u64::from(item.count) * item.cents).sum();
        Order { id: 8, customer: order.customer, items: order.items, total }
    }
}
