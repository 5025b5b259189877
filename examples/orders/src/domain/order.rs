//! Orders, and the rules of what may happen to them: pure, the time is an argument.

use std::{fmt, str::FromStr};

use garde::Validate;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::{NoContext, Uuid};

use super::{Name, OrderError};

/// The most that one order may come to, in cents: far above any real one, and exact in JSON's numbers.
pub(crate) const MAX_TOTAL: u64 = 1_000_000_000_000;

/// The name of an order. Later orders have greater ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "Uuid")]
pub(crate) struct OrderId(Uuid);

impl OrderId {
    /// A new one; its time is in it.
    pub(crate) fn new(now: Timestamp) -> Self {
        let seconds = u64::try_from(now.as_second()).unwrap_or_default();
        let nanoseconds = u32::try_from(now.subsec_nanosecond()).unwrap_or_default();
        Self(Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanoseconds)))
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for OrderId {
    type Err = NoOrderId;

    fn from_str(text: &str) -> Result<Self, NoOrderId> {
        text.parse().map(Self).map_err(|_| NoOrderId)
    }
}

impl TryFrom<String> for OrderId {
    type Error = NoOrderId;

    fn try_from(text: String) -> Result<Self, NoOrderId> {
        text.parse()
    }
}

impl From<OrderId> for String {
    fn from(id: OrderId) -> Self {
        id.to_string()
    }
}

/// A text that names no order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a UUID")]
pub(crate) struct NoOrderId;

/// What a customer bought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Order {
    /// The order's name.
    pub(crate) id: OrderId,
    /// Who bought.
    pub(crate) customer: Name,
    /// What was bought, in the order of the lines.
    pub(crate) items: Vec<Item>,
    /// What it comes to, in cents.
    pub(crate) total: u64,
    /// How far it has come.
    pub(crate) status: Status,
    /// When it was placed.
    pub(crate) placed_at: Timestamp,
    /// Counts the changes, from 1.
    pub(crate) version: u32,
}

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct Item {
    /// The article.
    #[garde(dive)]
    pub(crate) sku: Name,
    /// How many of it.
    #[garde(range(min = 1, max = 10_000))]
    pub(crate) count: u32,
    /// The price of one, in cents.
    #[garde(range(max = 100_000_000))]
    pub(crate) cents: u64,
}

/// How far an order has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// It waits for its payment.
    Placed,
    /// It waits to be shipped.
    Paid,
    /// It is on its way: nothing changes any more.
    Shipped,
    /// It came to nothing.
    Cancelled,
}

impl Status {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Paid => "paid",
            Self::Shipped => "shipped",
            Self::Cancelled => "cancelled",
        }
    }

    pub(crate) fn named(word: &str) -> Option<Self> {
        [Self::Placed, Self::Paid, Self::Shipped, Self::Cancelled].into_iter().find(|status| status.as_str() == word)
    }

    /// Whether nothing will ever change again.
    pub(crate) const fn is_final(self) -> bool {
        matches!(self, Self::Shipped | Self::Cancelled)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a customer wants to buy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewOrder {
    /// The caller's own word for this order, one of a customer's. Placing again with the same key gives the same order.
    #[garde(dive)]
    pub(crate) key: Name,
    /// Who buys.
    #[garde(dive)]
    pub(crate) customer: Name,
    /// What is bought, at least one.
    #[garde(length(max = 100), dive)]
    #[schemars(length(min = 1, max = 100))]
    pub(crate) items: Vec<Item>,
}

/// What a customer pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Payment {
    /// All that the order comes to, in cents.
    pub(crate) cents: u64,
}

/// Something that happened to an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct OrderEvent {
    /// The order.
    pub(crate) order: OrderId,
    /// The order's version since then.
    pub(crate) version: u32,
    /// How far it had come with this.
    pub(crate) status: Status,
    /// When it happened.
    pub(crate) at: Timestamp,
}

impl NewOrder {
    /// The order that this becomes.
    pub(crate) fn place(self, now: Timestamp) -> Result<Order, OrderError> {
        if self.items.is_empty() {
            return Err(OrderError::Empty);
        }
        Ok(Order {
            id: OrderId::new(now),
            total: total(&self.items)?,
            customer: self.customer,
            items: self.items,
            status: Status::Placed,
            placed_at: now,
            version: 1,
        })
    }
}

impl Order {
    /// The order once it is paid: all of it, and once.
    pub(crate) fn pay(self, payment: Payment) -> Result<Self, OrderError> {
        match self.status {
            Status::Placed if payment.cents == self.total => Ok(self.turned(Status::Paid)),
            Status::Placed => Err(OrderError::WrongAmount { due: self.total, paid: payment.cents }),
            _ => Err(self.cannot_be(Status::Paid)),
        }
    }

    /// The order once it is on its way: paid before. Shipped before, it stays as it is.
    pub(crate) fn ship(self) -> Result<Self, OrderError> {
        match self.status {
            Status::Paid => Ok(self.turned(Status::Shipped)),
            Status::Shipped => Ok(self),
            Status::Placed | Status::Cancelled => Err(self.cannot_be(Status::Shipped)),
        }
    }

    /// The order once it is cancelled: until it is shipped. Cancelled before, it stays as it is.
    pub(crate) fn cancel(self) -> Result<Self, OrderError> {
        match self.status {
            Status::Placed | Status::Paid => Ok(self.turned(Status::Cancelled)),
            Status::Cancelled => Ok(self),
            Status::Shipped => Err(self.cannot_be(Status::Cancelled)),
        }
    }

    /// Whether the two were placed with the same content.
    pub(crate) fn is_placed_like(&self, other: &Self) -> bool {
        self.customer == other.customer && self.items == other.items
    }

    fn turned(self, status: Status) -> Self {
        Self { status, version: self.version + 1, ..self }
    }

    fn cannot_be(&self, wanted: Status) -> OrderError {
        OrderError::WrongState { id: self.id, status: self.status, wanted }
    }
}

fn total(items: &[Item]) -> Result<u64, OrderError> {
    let sum = items.iter().try_fold(0_u64, |sum, item| sum.checked_add(item.cents.checked_mul(item.count.into())?));
    sum.filter(|sum| *sum <= MAX_TOTAL).ok_or(OrderError::TooMuch { most: MAX_TOTAL })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn item(count: u32, cents: u64) -> Item {
        Item { sku: "a-1".into(), count, cents }
    }

    fn order(status: Status) -> Order {
        let new = NewOrder { key: "k".into(), customer: "ada".into(), items: vec![item(2, 250)] };
        Order { status, ..new.place(NOW).unwrap() }
    }

    #[test]
    fn an_order_needs_an_item_and_an_end_to_its_price() {
        let with = |items| NewOrder { key: "k".into(), customer: "ada".into(), items };
        assert!(matches!(with(vec![]).place(NOW), Err(OrderError::Empty)));
        assert!(matches!(with(vec![item(2, MAX_TOTAL)]).place(NOW), Err(OrderError::TooMuch { .. })));
        assert!(matches!(with(vec![item(2, u64::MAX)]).place(NOW), Err(OrderError::TooMuch { .. })));
        let placed = with(vec![item(2, 250), item(1, 1)]).place(NOW).unwrap();
        assert_eq!((placed.total, placed.status, placed.version), (501, Status::Placed, 1));
    }

    #[test]
    fn each_state_allows_only_its_own_changes() {
        use Status::{Cancelled, Paid, Placed, Shipped};
        let pay: fn(Order) -> Result<Order, OrderError> = |order| order.pay(Payment { cents: 500 });
        for (change, wanted, from) in
            [(pay, Paid, &[Placed][..]), (Order::ship, Shipped, &[Paid]), (Order::cancel, Cancelled, &[Placed, Paid])]
        {
            for status in [Placed, Paid, Shipped, Cancelled] {
                match change(order(status)) {
                    Ok(changed) if from.contains(&status) => assert_eq!((changed.status, changed.version), (wanted, 2)),
                    // What is so already, stays so: but nobody pays twice.
                    Ok(same) => {
                        assert_eq!((same.status, same.version, status), (wanted, 1, wanted));
                        assert_ne!(wanted, Paid);
                    }
                    Err(OrderError::WrongState { status: found, wanted: told, .. }) => {
                        assert!(!from.contains(&status));
                        assert_eq!((found, told), (status, wanted));
                    }
                    Err(error) => panic!("{status} to {wanted}: {error:?}"),
                }
            }
        }
    }

    #[test]
    fn a_payment_is_the_whole_price() {
        for cents in [0, 499, 501] {
            let refused = order(Status::Placed).pay(Payment { cents });
            assert!(matches!(refused, Err(OrderError::WrongAmount { due: 500, paid }) if paid == cents));
        }
    }

    #[test]
    fn a_later_order_has_a_greater_name() {
        let later = NOW + jiff::SignedDuration::from_millis(1);
        assert!(OrderId::new(NOW).to_string() < OrderId::new(later).to_string());
    }
}
