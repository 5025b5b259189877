//! What do I answer when I cannot ask? `cargo run -p cache-answers -- --config examples/cache-answers/config/default.toml`,
//! then `curl localhost:8080/articles/pear`.
//!
//! The shop asks a supplier for the price and the stock of an article. An old price is still a good answer, so prices are
//! kept: for five seconds nobody asks again, and while the supplier fails the old price is told for five minutes, marked as
//! old. An old stock is a wrong answer, so it is not kept: its fallback is to say that it is not known.
//!
//! `curl -X PUT localhost:8080/supplier/down`, and ask for the pear again, at once and after five seconds; then for a fig,
//! whose price nobody has asked for before: that is an error. `curl -X PUT localhost:8080/supplier/up` mends it.
//!
//! The cache is the cargo feature `cache` of `chassis`. A method with `#[fallback]` is not one to keep: the cache could not
//! tell the stand-in from an answer.
//!
//! Try next: ask for an article a thousand times at once, and look at `asked`: one call was made. Set
//! `app.prices.stale_if_error` to `0s`, and old prices are not told.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use chassis::{
    cache::{Cache, CacheConfig, Failure},
    client::CallError,
    prelude::*,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
struct Price {
    cents: u32,
    /// How often the supplier was asked for a price.
    asked: u32,
}

#[derive(Debug, thiserror::Error, Problem)]
#[error("nobody is in the warehouse")]
#[problem(unavailable)]
struct Down;

/// The service that is down now and then.
#[derive(Default)]
struct Supplier {
    down: AtomicBool,
    asked: AtomicU32,
}

#[service]
impl Supplier {
    #[get("/supplier/prices/{sku}")]
    async fn price(&self, sku: String) -> Result<Price, Down> {
        let asked = self.asked.fetch_add(1, Relaxed) + 1;
        if self.down.load(Relaxed) { Err(Down) } else { Ok(Price { cents: 40 * sku.len() as u32, asked }) }
    }

    #[get("/supplier/stock/{sku}")]
    async fn stock(&self, sku: String) -> Result<Option<u32>, Down> {
        if self.down.load(Relaxed) { Err(Down) } else { Ok(Some(sku.len() as u32)) }
    }

    /// Tell it to be `up` or `down`.
    #[put("/supplier/{state}")]
    async fn feel(&self, state: String) {
        self.down.store(state == "down", Relaxed);
    }
}

/// The supplier, as its callers see it.
#[chassis::client]
trait SupplierApi: Send + Sync {
    #[get("/supplier/prices/{sku}")]
    async fn price(&self, sku: &str) -> Result<Price, CallError>;

    #[get("/supplier/stock/{sku}")]
    #[fallback(unknown)]
    async fn stock(&self, sku: &str) -> Result<Option<u32>, CallError>;

    /// Stands in for `stock` when that fails.
    async fn unknown(&self, _sku: &str) -> Result<Option<u32>, CallError> {
        Ok(None)
    }
}

#[derive(Serialize, JsonSchema)]
struct Article {
    price: Price,
    /// Whether the price is told because no new one could be had.
    old_price: bool,
    /// How many there are, when that is known.
    stock: Option<u32>,
}

/// Both are told as what came of the call.
#[derive(Debug, thiserror::Error, Problem)]
enum ArticleError {
    #[error(transparent)]
    #[problem(transparent)]
    Price(#[from] Failure<CallError>),
    #[error(transparent)]
    #[problem(transparent)]
    Stock(#[from] CallError),
}

struct Shop {
    supplier: SupplierApiClient,
    prices: Cache<String, Price>,
}

#[service]
impl Shop {
    /// Look an article up.
    #[get("/articles/{sku}")]
    async fn article(&self, sku: String) -> Result<Article, ArticleError> {
        let price = self.prices.get(sku.clone(), || self.supplier.price(&sku)).await?;
        let stock = self.supplier.stock(&sku).await?;
        Ok(Article { price: (*price).clone(), old_price: price.is_stale(), stock })
    }
}

/// The service's own settings: the section `[app]`.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// How long prices are kept.
    prices: CacheConfig,
}

#[chassis::main]
async fn main(chassis: Chassis<Settings>) -> chassis::Result<()> {
    let shop = Shop {
        supplier: SupplierApiClient::new(chassis.client("supplier")?),
        prices: Cache::new(&chassis.settings().prices),
    };
    chassis.mount(Supplier::default()).mount(shop).serve().await
}
