//! The domain: an order is a pure function of its id, so that the example needs no store.

use chassis::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Orders 1 to this one exist.
pub(crate) const LAST_ID: u32 = 1_000_000;

/// What a customer bought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Order {
    pub(crate) id: u32,
    pub(crate) customer: String,
    pub(crate) items: Vec<Item>,
    /// In cents.
    pub(crate) total: u64,
    pub(crate) status: Status,
    pub(crate) created_at: String,
}

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Item {
    pub(crate) sku: String,
    pub(crate) count: u32,
    pub(crate) cents: u64,
}

/// How far an order has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Placed,
    Paid,
}

impl Status {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Paid => "paid",
        }
    }
}

/// What a customer wants to buy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewOrder {
    pub(crate) customer: String,
    // Tells the document what `place` enforces, as `empty_order`.
    #[schemars(length(min = 1))]
    pub(crate) items: Vec<Item>,
}

/// No order has this id.
#[derive(Debug, PartialEq, Eq, thiserror::Error, Problem)]
#[error("there is no order {0}")]
#[problem(not_found)]
pub(crate) struct UnknownOrder(pub(crate) u32);

/// The order has no items.
#[derive(Debug, PartialEq, Eq, thiserror::Error, Problem)]
#[error("an order needs at least one item")]
#[problem(unprocessable)]
pub(crate) struct EmptyOrder;

/// The order with this id, about 215 bytes as JSON, or nothing when there is none.
pub(crate) fn find(id: u32) -> Option<Order> {
    if !(1..=LAST_ID).contains(&id) {
        return None;
    }
    let item = |line: u32| Item {
        sku: format!("a-{:02}", id % 10 * 10 + line),
        count: line,
        cents: u64::from(id % 90 + 10 * line),
    };
    let items: Vec<Item> = (1..=3).map(item).collect();
    Some(Order {
        id,
        customer: format!("customer-{id}"),
        total: total(&items),
        items,
        status: Status::Paid,
        created_at: created_at(id),
    })
}

/// Takes an order; this example keeps none.
pub(crate) fn place(order: NewOrder) -> Result<Order, EmptyOrder> {
    if order.items.is_empty() {
        return Err(EmptyOrder);
    }
    let id = LAST_ID + 1;
    Ok(Order {
        id,
        customer: order.customer,
        total: total(&order.items),
        items: order.items,
        status: Status::Placed,
        created_at: created_at(id),
    })
}

fn total(items: &[Item]) -> u64 {
    items.iter().fold(0, |sum: u64, item| sum.saturating_add(u64::from(item.count).saturating_mul(item.cents)))
}

/// One order a second since the start of 2026; a million seconds end on 12 January.
fn created_at(id: u32) -> String {
    let (day, second) = (id / 86_400, id % 86_400);
    format!("2026-01-{:02}T{:02}:{:02}:{:02}Z", day + 1, second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_one_to_a_million_exist() {
        for (id, exists) in [(0, false), (1, true), (LAST_ID, true), (LAST_ID + 1, false)] {
            assert_eq!(find(id).is_some(), exists, "{id}");
        }
    }

    #[test]
    fn an_order_without_items_is_refused() {
        let order = NewOrder { customer: "ada".into(), items: vec![] };
        assert_eq!(place(order), Err(EmptyOrder));
    }
}
