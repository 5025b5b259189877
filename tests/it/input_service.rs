//! A service with every kind of argument, which answers with what it was given.

use std::collections::BTreeMap;

use chassis::{
    service::{Created, service},
    testing::TestService,
};
use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub struct Inputs;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Color {
    Red,
    DarkBlue,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Sku(String);

impl TryFrom<String> for Sku {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        if text.starts_with("sku-") { Ok(Self(text)) } else { Err("expected a text that starts with sku-") }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub struct OrderId(u32);

#[derive(Debug, Serialize, Deserialize)]
pub struct Filter {
    limit: Option<u8>,
    name: Option<String>,
    #[serde(default)]
    ids: Vec<u32>,
    color: Option<Color>,
    #[serde(default)]
    exact: bool,
    sku: Option<Sku>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    from: i64,
    to: f64,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct NewOrder {
    customer: String,
    items: Vec<Item>,
    #[serde(default)]
    payment: Option<Payment>,
    #[serde(default)]
    notes: BTreeMap<u16, String>,
    #[serde(default)]
    delivery: Option<Delivery>,
    #[serde(default)]
    area: Option<(f32, f64)>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    sku: Sku,
    count: u32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payment {
    Cash,
    Card { number: String },
    Points(i8),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Delivery {
    Pickup,
    Parcel { street: String, weight: u16 },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Either {
    Number(i32),
    Order(Box<NewOrder>),
}

#[derive(Debug, Serialize, Deserialize, Validate)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    #[garde(length(min = 1, max = 8))]
    first_name: String,
    #[garde(range(max = 10))]
    item_count: u32,
    #[serde(default)]
    #[garde(dive)]
    inner_parts: Vec<Part>,
}

#[derive(Debug, Serialize, Deserialize, Validate)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    #[garde(ascii)]
    part_name: String,
}

#[derive(Debug, Serialize, Deserialize, Validate)]
pub struct CheckedQuery {
    #[garde(range(min = 1, max = 100))]
    limit: Option<u32>,
    #[serde(default)]
    #[garde(inner(length(min = 2)))]
    tags: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize, Validate)]
pub struct Code(#[garde(length(equal = 4))] String);

#[service]
impl Inputs {
    #[get("/ints/{id}")]
    async fn int(&self, id: u8) -> u8 {
        id
    }

    #[get("/texts/{text}")]
    async fn text(&self, text: String) -> String {
        text
    }

    #[get("/colors/{color}")]
    async fn color(&self, color: Color) -> Color {
        color
    }

    #[get("/skus/{sku}")]
    async fn sku(&self, sku: Sku) -> Sku {
        sku
    }

    #[get("/options/{id}")]
    async fn option(&self, id: Option<OrderId>) -> Option<OrderId> {
        id
    }

    #[get("/options/{text}/more")]
    async fn more(&self, text: Option<String>) -> Option<String> {
        text
    }

    #[get("/floats/{x}/and/{flag}")]
    async fn float(&self, x: f64, flag: bool) -> (f64, bool) {
        (x, flag)
    }

    #[get("/files/{*rest}")]
    async fn file(&self, rest: String) -> String {
        rest
    }

    #[get("/filter")]
    async fn filter(&self, filter: Filter) -> Filter {
        filter
    }

    #[get("/range")]
    async fn range(&self, range: Range) -> Range {
        range
    }

    #[delete("/range")]
    async fn no_range(&self, range: Option<Range>) -> Option<Range> {
        range
    }

    #[get("/map")]
    async fn map(&self, all: BTreeMap<String, Vec<String>>) -> BTreeMap<String, Vec<String>> {
        all
    }

    #[get("/extract/{id}")]
    async fn extract(&self, id: u64, #[extract] headers: http::HeaderMap, query: Filter) -> (u64, usize, Filter) {
        (id, headers.len().min(1), query)
    }

    #[post("/orders")]
    async fn order(&self, order: NewOrder) -> Created<NewOrder> {
        Created::new(order)
    }

    #[put("/orders/{id}")]
    async fn replace(&self, id: OrderId, order: Option<NewOrder>) -> (OrderId, Option<NewOrder>) {
        (id, order)
    }

    #[post("/payments")]
    async fn pay(&self, payment: Payment) -> Payment {
        payment
    }

    #[post("/either")]
    async fn either(&self, either: Either) -> Either {
        either
    }

    #[post("/counts")]
    async fn counts(&self, counts: BTreeMap<String, Vec<i32>>) -> BTreeMap<String, Vec<i32>> {
        counts
    }

    #[post("/any")]
    async fn any(&self, any: Value) -> Value {
        any
    }

    #[patch("/checked")]
    async fn checked(&self, checked: Checked) -> Checked {
        checked
    }

    #[get("/checked")]
    async fn checked_query(&self, query: CheckedQuery) -> CheckedQuery {
        query
    }

    #[get("/checked/{code}")]
    async fn checked_path(&self, code: Code) -> Code {
        code
    }
}

pub async fn start() -> TestService {
    let service = TestService::builder().set("http.body_limit", "256KiB");
    service.start(|chassis: chassis::Chassis| chassis.mount(Inputs)).await.unwrap()
}
