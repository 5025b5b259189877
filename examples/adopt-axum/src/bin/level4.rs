//! Level 4, handlers are plain functions and the process is the chassis's:
//! `cargo run -p adopt-axum --bin adopt-axum-level4 -- --config examples/adopt-axum/config/level4.toml`, then
//! `curl localhost:8080/openapi.json`.

use std::{convert::Infallible, sync::Arc};

use adopt_axum::{Article, BoxError, Count, Shop, ShopError, Stock, guarded, operators};
use axum::middleware::map_response;
use chassis::{client::CallError, prelude::*, tasks::Restart};

/// The inventory, as this service asks it.
#[chassis::client]
trait StockApi: Send + Sync {
    #[get("/stock/{sku}", timeout = "1s")]
    async fn stock(&self, sku: &str) -> Result<Count, CallError>;
}

impl Stock for StockApiClient {
    async fn count(&self, sku: &str) -> Result<u32, BoxError> {
        Ok(self.stock(sku).await?.count)
    }
}

/// The shop as it is served.
struct Api(Arc<Shop<StockApiClient>>);

#[service]
impl Api {
    /// Look an article up.
    #[get("/articles/{sku}")]
    async fn article(&self, sku: String) -> Result<Article, Refused> {
        Ok(self.0.find(sku)?)
    }

    /// Add an article, or give one a new price.
    #[post("/articles")]
    async fn add(&self, article: Article) -> Result<Created<Article>, Refused> {
        Ok(Created::new(self.0.add(article)?))
    }

    /// Count what there is of an article.
    #[get("/articles/{sku}/stock")]
    async fn stock(&self, sku: String) -> Result<Count, Refused> {
        Ok(self.0.count(sku).await?)
    }
}

/// An error of the shop as its callers know it: the member `error` stays beside those of a problem.
struct Refused(ShopError);

impl From<ShopError> for Refused {
    fn from(error: ShopError) -> Self {
        Self(error)
    }
}

impl IntoProblem for Refused {
    fn into_problem(self) -> Problem {
        let text = self.0.to_string();
        let problem = match &self.0 {
            ShopError::Unknown(_) => Problem::not_found("unknown_article").detail(&text),
            ShopError::Incomplete => Problem::unprocessable("incomplete_article").detail(&text),
            ShopError::Stock(..) => Problem::unavailable("unknown_stock").explained_by(&self.0),
        };
        problem.with("error", text)
    }
}

#[chassis::main]
async fn main(chassis: Chassis) -> chassis::Result<()> {
    let shop = Arc::new(Shop::new(StockApiClient::new(chassis.client("inventory")?)));
    let counted = shop.clone();
    let _added = chassis
        .meter("shop")
        .u64_observable_counter("shop.articles.added")
        .with_callback(move |counter| counter.observe(counted.added(), &[]))
        .build();
    let (pinged, reporting, closed) = (shop.clone(), shop.clone(), shop.clone());
    chassis
        .mount(Api(shop.clone()))
        .mount(operators(shop))
        .layer(map_response(guarded))
        .check("shop", move || {
            let shop = pinged.clone();
            async move { shop.ping().await }
        })
        .background("report", Restart::OnFailure, move |stop| {
            let shop = reporting.clone();
            async move {
                stop.run_until_cancelled(shop.report()).await;
                Ok::<_, Infallible>(())
            }
        })
        .on_shutdown("shop", move || async move { closed.close().await })
        .serve()
        .await
}
