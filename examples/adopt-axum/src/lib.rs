//! A shop's articles: what all binaries of this crate share. Nothing here knows the chassis, and nothing changes from level
//! to level. `docs/how-to/adopt.md` walks through the levels.

mod http;
mod stock;

use std::{
    collections::BTreeMap,
    env,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::{
    http::{guarded, operators, routes, stop_signal},
    stock::{PlainStock, Stock},
};

/// An error of any kind, as a `main` gathers them.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What this service has always been configured with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it listens: `LISTEN`.
    pub listen: String,
    /// Where the inventory is, `examples/inventory` for example: `STOCK_ADDRESS`.
    pub stock: String,
}

impl Settings {
    /// From the environment.
    #[must_use]
    pub fn from_env() -> Self {
        let variable = |name, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
        Self { listen: variable("LISTEN", "127.0.0.1:8080"), stock: variable("STOCK_ADDRESS", "127.0.0.1:8090") }
    }
}

/// An article.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Article {
    /// Its name.
    pub sku: String,
    /// Its price.
    pub cents: u32,
}

/// How many of an article there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Count {
    /// The article's name.
    pub sku: String,
    /// How many there are.
    pub count: u32,
}

/// Why an article is not shown or not taken.
#[derive(Debug, thiserror::Error)]
pub enum ShopError {
    /// There is no such article.
    #[error("there is no article {0}")]
    Unknown(String),
    /// It is not for sale.
    #[error("an article needs a name and a price")]
    Incomplete,
    /// The inventory did not answer.
    #[error("nobody knows how many of {0} there are")]
    Stock(String, #[source] BoxError),
}

/// The shop has nothing to sell.
#[derive(Debug, thiserror::Error)]
#[error("the shop is empty")]
pub struct Empty;

/// The shop, which asks somebody else what is in stock.
#[derive(Debug)]
pub struct Shop<S> {
    stock: S,
    articles: Mutex<BTreeMap<String, u32>>,
    added: AtomicU64,
}

impl<S: Stock> Shop<S> {
    /// A shop with two articles.
    pub fn new(stock: S) -> Self {
        let articles = BTreeMap::from([("apple".to_owned(), 80), ("pear".to_owned(), 120)]);
        Self { stock, articles: Mutex::new(articles), added: AtomicU64::new(0) }
    }

    /// One article.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn find(&self, sku: String) -> Result<Article, ShopError> {
        tracing::info!(sku, "looked up");
        let cents = self.articles().get(&sku).copied();
        cents.map(|cents| Article { sku: sku.clone(), cents }).ok_or(ShopError::Unknown(sku))
    }

    /// A new article, or a new price.
    ///
    /// # Errors
    /// It has no name or no price.
    pub fn add(&self, article: Article) -> Result<Article, ShopError> {
        if article.sku.is_empty() || article.cents == 0 {
            return Err(ShopError::Incomplete);
        }
        self.articles().insert(article.sku.clone(), article.cents);
        self.added.fetch_add(1, Ordering::Relaxed);
        Ok(article)
    }

    /// How many of an article there are.
    ///
    /// # Errors
    /// There is no such article, or nobody can be asked.
    pub async fn count(&self, sku: String) -> Result<Count, ShopError> {
        let Article { sku, .. } = self.find(sku)?;
        match self.stock.count(&sku).await {
            Ok(count) => Ok(Count { sku, count }),
            Err(error) => Err(ShopError::Stock(sku, error)),
        }
    }

    /// How many articles were added since the start.
    pub fn added(&self) -> u64 {
        self.added.load(Ordering::Relaxed)
    }

    /// Whether it can sell anything.
    ///
    /// # Errors
    /// It has no articles.
    pub async fn ping(&self) -> Result<(), Empty> {
        if self.articles().is_empty() { Err(Empty) } else { Ok(()) }
    }

    /// Says once a minute how many articles there are. Never ends.
    pub async fn report(self: Arc<Self>) {
        let mut minute = tokio::time::interval(Duration::from_secs(60));
        loop {
            minute.tick().await;
            tracing::info!(articles = self.articles().len(), "in the shop");
        }
    }

    /// The last thing that is done before the process ends.
    pub async fn close(&self) {
        tracing::info!(articles = self.articles().len(), "closed");
    }

    fn articles(&self) -> MutexGuard<'_, BTreeMap<String, u32>> {
        self.articles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
