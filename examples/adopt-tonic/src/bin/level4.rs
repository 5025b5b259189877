//! Level 4, handlers are plain functions, over gRPC and HTTP, and the process is the chassis's:
//! `cargo run -p adopt-tonic --bin adopt-tonic-level4 -- --config examples/adopt-tonic/config/level4.toml`, then
//! `curl localhost:8080/articles/pear`.

use std::{convert::Infallible, sync::Arc};

use adopt_tonic::{
    Article, Count, FILE_DESCRIPTOR_SET, GrpcStock, Shop, ShopError, inventory::inventory_client::InventoryClient,
    proto,
};
use chassis::{client::Channel, prelude::*, tasks::Restart};

/// The shop as it is served.
struct Api(Arc<Shop<GrpcStock<Channel>>>);

#[service(grpc = proto::catalogue_server::Catalogue)]
impl Api {
    /// Look an article up.
    #[get("/articles/{sku}")]
    #[rpc(GetArticle)]
    async fn article(&self, sku: String) -> Result<Article, Refused> {
        Ok(self.0.find(sku)?)
    }

    /// Add an article, or give one a new price.
    #[post("/articles")]
    #[rpc(AddArticle)]
    async fn add(&self, #[message] article: Article) -> Result<Article, Refused> {
        Ok(self.0.add(article)?)
    }

    /// Count what there is of an article.
    #[get("/articles/{sku}/stock")]
    #[rpc(GetCount)]
    async fn count(&self, sku: String) -> Result<Count, Refused> {
        Ok(self.0.count(sku).await?)
    }
}

/// An error of the shop as its callers know it.
struct Refused(ShopError);

impl From<ShopError> for Refused {
    fn from(error: ShopError) -> Self {
        Self(error)
    }
}

impl IntoProblem for Refused {
    fn into_problem(self) -> Problem {
        let text = self.0.to_string();
        match &self.0 {
            ShopError::Unknown(_) => Problem::not_found("unknown_article").detail(text),
            ShopError::Incomplete => Problem::unprocessable("incomplete_article").detail(text),
            // Nothing of the inside is told: what callers may know is the title.
            ShopError::Stock(..) => Problem::unavailable("unknown_stock").title(text).explained_by(&self.0),
        }
    }
}

#[chassis::main]
async fn main(chassis: Chassis) -> chassis::Result<()> {
    let inventory = InventoryClient::new(chassis.channel("inventory")?);
    let shop = Arc::new(Shop::new(GrpcStock(inventory)));
    let counted = shop.clone();
    let _added = chassis
        .meter("shop")
        .u64_observable_counter("shop.articles.added")
        .with_callback(move |counter| counter.observe(counted.added(), &[]))
        .build();
    let (pinged, reporting, closed) = (shop.clone(), shop.clone(), shop.clone());
    chassis
        .mount(Api(shop))
        .grpc_reflection(FILE_DESCRIPTOR_SET)
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
