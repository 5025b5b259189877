//! What is in stock. A library too, so that `storefront` has the gRPC client, and can run it in its own process.

mod grpc;
mod shelf;

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use chassis::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::{
    grpc::{FILE_DESCRIPTOR_SET, proto},
    shelf::{Stock, StockError, Wanted},
};
use shelf::Shelf;

/// How an instance feels, for trying out what its callers make of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Mood {
    /// How long it thinks before each answer.
    pub delay: chassis::config::Duration,
    /// Whether it fails, at once, whatever it is asked.
    pub failing: bool,
}

/// The service. Each instance has a shelf of its own in memory: an example, not a warehouse.
pub struct Inventory {
    shelf: Mutex<Shelf>,
    instance: String,
    mood: Box<dyn Fn() -> Mood + Send + Sync>,
}

impl Inventory {
    /// With a full shelf. `instance` is the name that the answers bear; `mood` is asked before each.
    pub fn new(instance: &str, mood: impl Fn() -> Mood + Send + Sync + 'static) -> Self {
        Self { shelf: Mutex::new(Shelf::full()), instance: instance.to_owned(), mood: Box::new(mood) }
    }

    async fn feel(&self) -> Result<(), StockError> {
        let mood = (self.mood)();
        if mood.failing {
            return Err(StockError::Failing);
        }
        if mood.delay.get() > Duration::ZERO {
            tokio::time::sleep(mood.delay.get()).await;
        }
        Ok(())
    }

    fn told(&self, sku: String, count: u32) -> Stock {
        Stock { sku, count, told_by: self.instance.clone() }
    }

    fn on_shelf<T>(&self, work: impl FnOnce(&mut Shelf) -> T) -> T {
        work(&mut self.shelf.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[service(grpc = proto::inventory_server::Inventory)]
impl Inventory {
    /// How many of an article there are.
    #[get("/stock/{sku}")]
    #[rpc(GetStock)]
    async fn stock(&self, sku: String) -> Result<Stock, StockError> {
        self.feel().await?;
        let count = self.on_shelf(|shelf| shelf.count(&sku))?;
        Ok(self.told(sku, count))
    }

    /// Take some of an article out for an order.
    ///
    /// A second call with the same key changes nothing, so a caller that got no answer may ask again.
    #[put("/stock/{sku}/reservations/{key}")]
    #[rpc(Reserve)]
    async fn reserve(&self, sku: String, key: String, wanted: Wanted) -> Result<Stock, StockError> {
        self.feel().await?;
        let left = self.on_shelf(|shelf| shelf.reserve(&sku, key, wanted.count))?;
        Ok(self.told(sku, left))
    }
}

impl fmt::Debug for Inventory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inventory").field("instance", &self.instance).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reservation_is_made_once_however_often_it_is_asked_for() {
        let inventory = Inventory::new("a", Mood::default);
        for _ in 0..2 {
            let stock = inventory.reserve("pear".into(), "k-1".into(), Wanted { count: 30 }).await.unwrap();
            assert_eq!((stock.count, stock.told_by.as_str()), (70, "a"));
        }
        let error = inventory.reserve("pear".into(), "k-2".into(), Wanted { count: 71 }).await.unwrap_err();
        assert_eq!(error.to_string(), "there are 70 pear, and 71 are wanted");
        assert!(inventory.stock("fig".into()).await.is_err());
    }

    #[tokio::test]
    async fn a_failing_instance_fails() {
        let inventory = Inventory::new("a", || Mood { failing: true, ..Mood::default() });
        assert_eq!(inventory.stock("pear".into()).await.unwrap_err().to_string(), "this instance is told to fail");
    }
}
