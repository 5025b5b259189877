//! The domain of the benchmark and of quickstart: an order is a pure function of its id.

use serde::{Deserialize, Serialize};

/// Orders 1 to this one exist.
pub(crate) const LAST_ID: u32 = 1_000_000;

/// What a customer bought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) id: u32,
    pub(crate) customer: String,
    pub(crate) items: Vec<Item>,
    pub(crate) total: u64,
    pub(crate) status: Status,
    pub(crate) created_at: String,
}

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) sku: String,
    pub(crate) count: u32,
    pub(crate) cents: u64,
}

/// How far an order has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Paid,
}

/// The order with this id, about 215 bytes as JSON, or nothing when there is none.
pub(crate) fn find(id: u32) -> Option<Order> {
    if !(1..=LAST_ID).contains(&id) {
        return None;
    }
    let items: Vec<Item> = (1..=3)
        .map(|line| Item {
            sku: format!("a-{:02}", id % 10 * 10 + line),
            count: line,
            cents: u64::from(id % 90 + 10 * line),
        })
        .collect();
    let total = items.iter().map(|item| u64::from(item.count) * item.cents).sum();
    Some(Order {
        id,
        customer: format!("customer-{id}"),
        items,
        total,
        status: Status::Paid,
        created_at: created_at(id),
    })
}

/// One order a second since the start of 2026; a million seconds end on 12 January.
fn created_at(id: u32) -> String {
    let (day, second) = (id / 86_400, id % 86_400);
    format!("2026-01-{:02}T{:02}:{:02}:{:02}Z", day + 1, second / 3600, second / 60 % 60, second % 60)
}
