//! What customers see.

use chassis::{Problem, client::CallError, prelude::*};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stock::{Reservations, StockApi, StockApiClient};

/// An article with its price.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Article {
    sku: String,
    cents: u32,
    /// How many there are; absent while nobody knows.
    stock: Option<u32>,
    /// The instance of the inventory that knew.
    told_by: Option<String>,
}

/// What a customer wants.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewOrder {
    sku: String,
    #[schemars(range(min = 1))]
    count: u32,
}

/// What a customer gets.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Order {
    key: String,
    sku: String,
    count: u32,
    cents: u64,
    /// How many there are for others.
    left: u32,
    told_by: String,
}

/// There is no such article.
#[derive(Debug, thiserror::Error, Problem)]
pub(crate) enum ArticleError {
    #[error("there is no article {0}")]
    #[problem(not_found, code = "unknown_article")]
    Unknown(String),
    #[error(transparent)]
    #[problem(transparent)]
    Inventory(#[from] CallError),
}

/// Why an order is not taken.
#[derive(Debug, thiserror::Error, Problem)]
pub(crate) enum OrderError {
    #[error("there is no article {0}")]
    #[problem(not_found, code = "unknown_article")]
    Unknown(String),
    #[error("there are not enough of {0}")]
    #[problem(conflict, code = "not_enough")]
    NotEnough(String),
    #[error("the inventory cannot be asked")]
    #[problem(unavailable, code = "inventory_unavailable")]
    Inventory(#[source] tonic::Status),
}

/// The shop.
pub(crate) struct Storefront {
    stock: StockApiClient,
    reservations: Reservations,
}

impl Storefront {
    /// Asks the destination `[clients.inventory]`, both ways, over the same endpoints and breakers.
    pub(crate) fn new<S>(chassis: &Chassis<S>) -> chassis::Result<Self>
    where
        S: serde::de::DeserializeOwned + JsonSchema + Send + Sync + 'static,
    {
        Ok(Self {
            stock: StockApiClient::new(chassis.client("inventory")?),
            reservations: Reservations::new(chassis.channel("inventory")?),
        })
    }
}

#[service]
impl Storefront {
    /// Look an article up.
    #[get("/articles/{sku}")]
    async fn article(&self, sku: String) -> Result<Article, ArticleError> {
        let cents = price(&sku).ok_or_else(|| ArticleError::Unknown(sku.clone()))?;
        let stock = self.stock.stock(&sku).await?;
        Ok(Article { sku, cents, stock: stock.count, told_by: stock.told_by })
    }

    /// Order an article.
    ///
    /// A second request with the same key gives the order of the first.
    #[put("/orders/{key}")]
    async fn order(&self, key: String, order: NewOrder) -> Result<Order, OrderError> {
        let NewOrder { sku, count } = order;
        let cents = price(&sku).ok_or_else(|| OrderError::Unknown(sku.clone()))?;
        let (left, told_by) = self.reservations.reserve(&key, &sku, count).await?;
        Ok(Order { key, sku, count, cents: u64::from(cents) * u64::from(count), left, told_by })
    }
}

/// In cents.
fn price(sku: &str) -> Option<u32> {
    match sku {
        "apple" => Some(80),
        "pear" => Some(120),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use chassis::testing::{TestResponse, TestService};
    use inventory::{Inventory, Mood};

    use super::*;

    /// The shop and these instances of the inventory, which listen where the shop's list says.
    async fn shop(instances: &[&TestService]) -> TestService {
        let list: Vec<String> = instances.iter().map(|instance| instance.http().to_string()).collect();
        let target = format!("static://{}", list.join(","));
        TestService::builder().set("clients.inventory.target", target).start(crate::service).await.unwrap()
    }

    async fn inventory(name: &'static str) -> TestService {
        TestService::start(|chassis: Chassis| chassis.mount(Inventory::new(name, Mood::default))).await.unwrap()
    }

    async fn order(shop: &TestService, key: &str) -> TestResponse {
        let request = http::Request::put(format!("http://{}/orders/{key}", shop.http()));
        let request = request.header("content-type", "application/json").body(r#"{"sku":"pear","count":1}"#.to_owned());
        shop.send(request.unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn one_of_two_instances_ends_and_no_customer_hears_of_it() {
        let (a, b) = (inventory("a").await, inventory("b").await);
        let shop = shop(&[&a, &b]).await;
        a.stop().await.unwrap();
        for at in 0..20 {
            let article = shop.get("/articles/pear").await.unwrap().json();
            assert_eq!(article["told_by"], "b", "{article}");
            let ordered = order(&shop, &format!("k-{at}")).await;
            assert_eq!((ordered.status.as_u16(), ordered.json()["told_by"].as_str()), (200, Some("b")));
        }
        assert_eq!(order(&shop, "k-0").await.json()["left"], 99, "once for each key");
        b.stop().await.unwrap();
        // Nothing is there to ask: the price is still told, an order is not made up.
        let article = shop.get("/articles/pear").await.unwrap().json();
        assert_eq!((&article["cents"], &article["stock"]), (&120.into(), &serde_json::Value::Null));
        let refused = order(&shop, "k-99").await;
        assert_eq!((refused.status.as_u16(), refused.json()["code"].as_str()), (503, Some("inventory_unavailable")));
        shop.stop().await.unwrap();
    }
}
