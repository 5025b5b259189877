use std::collections::BTreeMap;

use axum::{extract::FromRequest, response::IntoResponse};
use serde_json::Value;

use super::*;
use crate::service::Arguments;

async fn arguments(query: &str) -> Arguments {
    let request = http::Request::get(format!("/?{query}")).body(axum::body::Body::empty()).expect("a request");
    Arguments::from_request(request, &()).await.expect("arguments")
}

async fn query<T: for<'de> Deserialize<'de>>(query: &str) -> Result<T, Value> {
    match arguments(query).await.query() {
        Ok(value) => Ok(value),
        Err(rejection) => {
            let body = axum::body::to_bytes(rejection.into_response().into_body(), 1 << 16).await.expect("a body");
            Err(serde_json::from_slice(&body).expect("JSON"))
        }
    }
}

#[derive(Debug, PartialEq, Deserialize)]
struct Page {
    limit: u32,
    after: Option<i64>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Filter {
    name: String,
    #[serde(flatten)]
    page: Page,
    #[serde(flatten)]
    more: More,
}

#[derive(Debug, PartialEq, Deserialize)]
struct More {
    #[serde(default)]
    deep: bool,
    price: Option<f64>,
    code: Option<String>,
    letter: Option<char>,
    #[serde(default)]
    ids: Vec<u32>,
    #[serde(flatten)]
    inner: Inner,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Inner {
    level: Option<i8>,
    #[serde(default)]
    tags: Vec<String>,
}

#[tokio::test]
async fn flattened_fields_are_read_as_their_types() {
    let read: Filter = query("name=7&limit=10&after=-3&deep=true&price=1.50&code=10&letter=7&ids=1&level=-1&tags=5")
        .await
        .expect("it fits");
    let expected = Filter {
        name: "7".into(),
        page: Page { limit: 10, after: Some(-3) },
        more: More {
            deep: true,
            price: Some(1.5),
            // The same text as the limit's, which is a number.
            code: Some("10".into()),
            letter: Some('7'),
            ids: vec![1],
            inner: Inner { level: Some(-1), tags: vec!["5".into()] },
        },
    };
    assert_eq!(read, expected);
    let read: Filter =
        query("name=a&limit=10&after=&price=&code=007&ids=1&ids=2&tags=x&tags=3").await.expect("it fits");
    assert_eq!((read.page.after, read.more.price, read.more.code.as_deref()), (None, None, Some("007")));
    assert_eq!((read.more.ids, read.more.inner.tags), (vec![1, 2], vec!["x".to_owned(), "3".to_owned()]));
}

#[tokio::test]
async fn a_flattened_option_is_read_when_it_is_there() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Search {
        #[serde(flatten)]
        page: Option<Named>,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Named {
        name: String,
        limit: u32,
    }
    let named = |name: &str| Search { page: Some(Named { name: name.into(), limit: 10 }) };
    assert_eq!(query("name=a&limit=10").await, Ok(named("a")));
    assert_eq!(query("name=10&limit=10").await, Ok(named("10")));
    assert_eq!(query("").await, Ok(Search { page: None }));
}

#[tokio::test]
async fn tagged_and_untagged_enums_are_read_as_their_types() {
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(tag = "kind", rename_all = "lowercase")]
    enum By {
        Page { limit: u32, full: bool },
        Name { name: String },
    }
    assert_eq!(query("kind=page&limit=10&full=false").await, Ok(By::Page { limit: 10, full: false }));
    assert_eq!(query("kind=name&name=10").await, Ok(By::Name { name: "10".into() }));

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(untagged)]
    enum Either {
        Numbered { page: u32 },
        From { cursor: String, limit: Option<u8> },
        All {},
    }
    assert_eq!(query("page=2").await, Ok(Either::Numbered { page: 2 }));
    assert_eq!(query("cursor=2&limit=2").await, Ok(Either::From { cursor: "2".into(), limit: Some(2) }));
    assert_eq!(query("").await, Ok(Either::All {}));

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(untagged)]
    enum IdOrName {
        Id(u64),
        Name(String),
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct User {
        user: IdOrName,
        other: Option<IdOrName>,
    }
    let user = User { user: IdOrName::Id(7), other: Some(IdOrName::Name("007".into())) };
    assert_eq!(query("user=7&other=007").await, Ok(user));

    // The same in a path.
    let mut router = axum::Router::new();
    async fn told(arguments: Arguments) -> axum::response::Response {
        match arguments.path::<IdOrName>("id") {
            Ok(id) => format!("{id:?}").into_response(),
            Err(rejection) => rejection.into_response(),
        }
    }
    router = router.route("/{id}", axum::routing::get(told));
    for (path, expected) in [("/7", "Id(7)"), ("/007", "Name(\"007\")"), ("/a", "Name(\"a\")")] {
        let request = http::Request::get(path).body(axum::body::Body::empty()).expect("a request");
        let answer = tower::ServiceExt::oneshot(router.clone(), request).await.expect("an answer");
        let body = axum::body::to_bytes(answer.into_body(), 1 << 16).await.expect("a body");
        assert_eq!(body, expected, "{path}");
    }
}

#[tokio::test]
async fn maps_take_texts_whatever_they_look_like() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Rest {
        limit: u32,
        #[serde(flatten)]
        rest: BTreeMap<String, String>,
    }
    let rest: Rest = query("limit=10&a=1&b=true&c=x").await.expect("it fits");
    assert_eq!(rest.limit, 10);
    assert_eq!(rest.rest.into_values().collect::<Vec<_>>(), ["1", "true", "x"]);
}

#[tokio::test]
async fn a_flattened_mistake_is_reported_with_its_name() {
    for (text, name, message) in [
        ("name=1&limit=many", "limit", "expected u32"),
        ("name=1&limit=-1", "limit", "expected u32"),
        ("name=1&limit=4294967296", "limit", "expected u32"),
        ("name=1&limit=1&deep=5", "deep", "expected a boolean"),
        ("name=1&code=2", "limit", "is missing"),
    ] {
        let problem = query::<Filter>(text).await.expect_err("a mistake");
        let violation = &problem["violations"][0];
        assert_eq!(violation["parameter"], name, "{text}: {problem}");
        assert!(violation["message"].as_str().is_some_and(|told| told.contains(message)), "{text}: {problem}");
        assert_eq!(problem["violations"].as_array().map(Vec::len), Some(1), "{text}: {problem}");
    }
}

#[tokio::test]
async fn a_query_made_to_be_slow_is_read_a_bounded_number_of_times() {
    let text: String = (0..500).map(|n| format!("limit={n}&k{n}={n}&")).collect();
    let mut readings = 0;
    let names: Vec<String> = (0..500).map(|n| format!("k{n}")).collect();
    let mut pairs: Vec<_> =
        names.iter().map(|name| Pair::new(name.into(), super::super::query::Value::Text("7".into()))).collect();
    assert!(attempt::<Filter>(&mut pairs, &mut readings).is_err());
    assert!(readings <= MAX_READINGS, "{readings}");
    assert!(query::<Filter>(&text).await.is_err());
}
