//! The service as a user of the chassis writes it.

use std::sync::Arc;

use axum::Router;
use chassis::{
    Problem,
    service::{Created, Service, service},
};

use crate::domain::{Filter, NewOrder, Order, Store};

#[derive(Debug, thiserror::Error, Problem)]
enum OrderError {
    #[error("there is no order {0}")]
    #[problem(not_found, code = "unknown_order")]
    Unknown(u32),
}

struct Orders {
    store: Store,
}

#[service]
impl Orders {
    #[get("/orders/{id}")]
    async fn order(&self, id: u32) -> Result<Order, OrderError> {
        self.store.order(id).ok_or(OrderError::Unknown(id))
    }

    #[get("/orders")]
    async fn find(&self, filter: Filter) -> Order {
        self.store.find(filter)
    }

    #[post("/orders")]
    async fn place(&self, order: NewOrder) -> Result<Created<Order>, OrderError> {
        let order = self.store.place(order);
        let id = order.id;
        Ok(Created::new(order).at(format_args!("/orders/{id}")))
    }
}

pub(crate) fn router() -> Router {
    Arc::new(Orders { store: Store }).into_router()
}
