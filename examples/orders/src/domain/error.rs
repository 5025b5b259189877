//! What can go wrong with an order. One enum speaks to HTTP and gRPC callers alike.

use chassis::Problem;

use super::{Name, OrderId, Status, StoreError};

/// What can go wrong with an order.
#[derive(Debug, thiserror::Error, Problem)]
pub(crate) enum OrderError {
    /// There is no order with this id.
    #[error("there is no order {id}")]
    #[problem(not_found, code = "unknown_order")]
    Unknown {
        #[problem(public)]
        id: OrderId,
    },

    /// The order has no items.
    #[error("an order needs at least one item")]
    #[problem(unprocessable, code = "empty_order")]
    Empty,

    /// The order comes to more than this service takes.
    #[error("an order may come to {most} cents at most")]
    #[problem(unprocessable, code = "order_too_large")]
    TooMuch {
        #[problem(public)]
        most: u64,
    },

    /// The key was used before, for an order with other content.
    #[error("the key {key} belongs to another order of this customer")]
    #[problem(conflict, code = "key_in_use")]
    KeyInUse {
        #[problem(public)]
        key: Name,
        #[problem(public)]
        order: OrderId,
    },

    /// The payment is not what the order comes to.
    #[error("found a payment of {paid} cents, expected {due}")]
    #[problem(conflict, code = "wrong_amount")]
    WrongAmount {
        #[problem(public)]
        due: u64,
        paid: u64,
    },

    /// The order has come too far, or not far enough.
    #[error("order {id} is {status}, so it cannot be {wanted}")]
    #[problem(conflict, code = "wrong_order_state")]
    WrongState {
        id: OrderId,
        #[problem(public = "order_status")]
        status: Status,
        wanted: Status,
    },

    /// Somebody else changed the order at the same time. Nothing was done; look at it again.
    #[error("order {id} was changed by somebody else at the same time")]
    #[problem(conflict, code = "order_changed", retry_safe)]
    Changed { id: OrderId },

    /// The store is out of reach for now.
    #[error("the store is out of reach")]
    #[problem(unavailable, code = "store_unavailable", retry_after = "1s")]
    StoreUnavailable(#[source] StoreError),

    /// The store failed.
    #[error("the store failed")]
    #[problem(internal, code = "store_failed")]
    StoreFailed(#[source] StoreError),
}

impl From<StoreError> for OrderError {
    fn from(error: StoreError) -> Self {
        if error.is_passing() { Self::StoreUnavailable(error) } else { Self::StoreFailed(error) }
    }
}
