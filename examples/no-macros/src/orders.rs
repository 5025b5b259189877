//! The domain of quickstart; its error says by hand which problem it is.

use chassis::problem::{IntoProblem, Problem, ProblemInfo};
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
    #[schemars(length(min = 1))]
    pub(crate) items: Vec<Item>,
}

/// No order has this id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no order {0}")]
pub(crate) struct UnknownOrder(pub(crate) u32);

impl IntoProblem for UnknownOrder {
    fn into_problem(self) -> Problem {
        Problem::not_found("unknown_order").explained_by(&self)
    }

    fn describe() -> Vec<ProblemInfo> {
        vec![ProblemInfo::of(&Problem::not_found("unknown_order")).doc("No order has this id.")]
    }
}

/// The order has no items.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an order needs at least one item")]
pub(crate) struct EmptyOrder;

impl IntoProblem for EmptyOrder {
    fn into_problem(self) -> Problem {
        Problem::unprocessable("empty_order").explained_by(&self)
    }

    fn describe() -> Vec<ProblemInfo> {
        vec![ProblemInfo::of(&Problem::unprocessable("empty_order")).doc("The order has no items.")]
    }
}

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
