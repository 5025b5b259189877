//! Queries behind `flatten`, `tag` and `untagged`: what the document lists can be sent, by hand and by a typed client.

use chassis::{
    Chassis,
    client::{CallError, Client},
    prelude::*,
    testing::TestService,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Page {
    limit: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "by", rename_all = "lowercase")]
enum Order {
    Price { descending: bool },
    Name { locale: String },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Search {
    name: String,
    #[serde(flatten)]
    page: Page,
    #[serde(flatten)]
    order: Option<Order>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Find {
    Number { number: u64 },
    Name { name: String, limit: u8 },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum IdOrName {
    Id(u64),
    Name(String),
}

struct Shop;

#[service]
impl Shop {
    #[get("/search")]
    async fn search(&self, search: Search) -> Search {
        search
    }

    #[get("/find")]
    async fn find(&self, find: Find) -> Find {
        find
    }

    #[get("/users/{user}")]
    async fn user(&self, user: IdOrName) -> IdOrName {
        user
    }
}

#[chassis::client]
trait ShopApi: Send + Sync {
    #[get("/search")]
    async fn search(&self, search: &Search) -> Result<Search, CallError>;
    #[get("/find")]
    async fn find(&self, find: &Find) -> Result<Find, CallError>;
    #[get("/users/{user}")]
    async fn user(&self, user: &IdOrName) -> Result<IdOrName, CallError>;
}

#[tokio::test]
async fn flattened_and_tagged_queries_are_read_as_documented() {
    let service = TestService::start(|chassis: Chassis| chassis.mount(Shop)).await.unwrap();
    for (path, expected) in [
        ("/search?name=7&limit=10", json!({"name": "7", "limit": 10})),
        (
            "/search?name=a&limit=10&after=-1&by=price&descending=true",
            json!({"name": "a", "limit": 10, "after": -1, "by": "price", "descending": true}),
        ),
        (
            "/search?name=true&limit=1&by=name&locale=1",
            json!({"name": "true", "limit": 1, "by": "name", "locale": "1"}),
        ),
        ("/find?number=10", json!({"number": 10})),
        ("/find?name=10&limit=10", json!({"name": "10", "limit": 10})),
        ("/users/7", json!(7)),
        ("/users/007", json!("007")),
    ] {
        let answer = service.get(path).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.json()), (200, expected), "{path}");
    }
    let refused = service.get("/search?name=a&limit=many").await.unwrap();
    assert_eq!((refused.status.as_u16(), &refused.json()["violations"][0]["parameter"]), (400, &json!("limit")));
    let document = service.get("/openapi.json").await.unwrap().json();
    let parameters = document["paths"]["/search"]["get"]["parameters"].as_array().unwrap();
    let listed: Vec<_> = parameters.iter().map(|parameter| parameter["name"].as_str().unwrap()).collect();
    for name in ["name", "limit", "after", "by", "descending", "locale"] {
        assert!(listed.contains(&name), "{name}: {listed:?}");
    }
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_typed_client_sends_them_as_they_are_read() {
    let service = TestService::start(|chassis: Chassis| chassis.mount(Shop)).await.unwrap();
    let shop = ShopApiClient::new(Client::new(&format!("http://{}", service.http())).unwrap());
    for order in [None, Some(Order::Price { descending: true }), Some(Order::Name { locale: "1".into() })] {
        for (name, after) in [("a", None), ("10", Some(-3))] {
            let search = Search { name: name.into(), page: Page { limit: 10, after }, order: order.clone() };
            assert_eq!(shop.search(&search).await.unwrap(), search);
        }
    }
    for find in [Find::Number { number: 7 }, Find::Name { name: "7".into(), limit: 7 }] {
        assert_eq!(shop.find(&find).await.unwrap(), find);
    }
    for user in [IdOrName::Id(7), IdOrName::Name("ada".into())] {
        assert_eq!(shop.user(&user).await.unwrap(), user);
    }
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_parameter_that_no_text_can_be_is_refused_at_start() {
    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "never read")]
    struct Nested {
        name: String,
        page: Page,
        pages: Option<Vec<Page>>,
    }

    struct Wrong;

    #[service]
    impl Wrong {
        #[get("/nested")]
        async fn nested(&self, query: Nested) -> u64 {
            drop(query);
            7
        }

        #[get("/pages/{page}")]
        async fn page(&self, page: Page) -> u32 {
            page.limit
        }
    }

    let refusal = TestService::start(|chassis: Chassis| chassis.mount(Wrong)).await.unwrap_err().to_string();
    for said in ["GET /nested", "\"page\" is an object", "\"pages\"", "#[serde(flatten)]", "GET /pages/{page}"] {
        assert!(refusal.contains(said), "{said}: {refusal}");
    }
    assert!(!refusal.contains("\"name\""), "{refusal}");
}

#[tokio::test]
async fn alternatives_that_no_text_can_be_are_not_listed() {
    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    #[expect(dead_code, reason = "never read")]
    enum Kind {
        Plain,
        Deep { level: u8 },
    }

    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "never read")]
    struct Kinds {
        kind: Kind,
    }

    struct Few;

    #[service]
    impl Few {
        #[get("/kinds")]
        async fn kinds(&self, kinds: Kinds) -> u64 {
            let _ = kinds;
            7
        }
    }

    let service = TestService::start(|chassis: Chassis| chassis.mount(Few)).await.unwrap();
    assert_eq!(service.get("/kinds?kind=plain").await.unwrap().status, 200);
    let document = service.get("/openapi.json").await.unwrap().json();
    let schema: &Value = &document["paths"]["/kinds"]["get"]["parameters"][0]["schema"];
    let text = schema.to_string();
    assert!(text.contains("plain") && !text.contains("object"), "{text}");
    service.stop().await.unwrap();
}
