//! Shapes of services that are unusual and right: they compile, and say of themselves what is expected.
//! The mistakes are in `tests/ui`.

use std::{collections::HashMap, marker::PhantomData, sync::Arc};

use chassis::{
    problem::Problem,
    service::{Created, Deprecation, RoutePolicy, Service, service},
};
use serde::{Deserialize, Serialize};

fn routes<S: Service>() -> Vec<String> {
    S::describe().iter().map(|route| format!("{} {}", route.method, route.path)).collect()
}

trait Store: Send + Sync + 'static {
    const NAME: &'static str;
}

struct InMemory;

impl Store for InMemory {
    const NAME: &'static str = "memory";
}

struct Generic<S, const N: usize>(PhantomData<S>);

#[service(path = "/stores")]
impl<S, const N: usize> Generic<S, N>
where
    S: Store,
{
    #[get("/name")]
    async fn name(&self) -> (&'static str, usize) {
        (S::NAME, N)
    }

    #[get("/")]
    #[allow(clippy::needless_lifetimes, reason = "the shape is tested")]
    async fn borrowed<'s>(&'s self) -> &'s str {
        S::NAME
    }
}

#[test]
fn a_service_may_be_generic_and_its_root_is_its_prefix() {
    assert_eq!(routes::<Generic<InMemory, 3>>(), ["GET /stores/name", "GET /stores"]);
}

macro_rules! service_of {
    ($name:ident, $path:literal, $ty:ty, $body:block) => {
        struct $name;

        #[service]
        impl $name {
            #[get($path)]
            async fn answer(&self) -> $ty $body

            #[get("/after")]
            async fn after(&self) {}
        }
    };
}

service_of!(FromMacro, "/from-macro", u64, { 7 });

#[tokio::test]
async fn a_service_may_come_from_a_macro() {
    assert_eq!(FromMacro.answer().await, 7);
    assert_eq!(routes::<FromMacro>(), ["GET /from-macro", "GET /after"]);
}

struct Conditional;

#[service]
impl Conditional {
    #[cfg(unix)]
    #[get("/where")]
    async fn place(&self) -> &'static str {
        "unix"
    }

    #[cfg(not(unix))]
    #[get("/where")]
    async fn place(&self) -> &'static str {
        "elsewhere"
    }

    #[allow(dead_code, reason = "there is no such feature")]
    #[cfg(any())]
    #[get("/never")]
    async fn never(&self, missing: NoSuchType) {}
}

#[test]
fn of_conditional_handlers_only_the_compiled_one_is_a_route() {
    assert_eq!(routes::<Conditional>(), ["GET /where"]);
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Page {
    limit: Option<u8>,
}

mod nested {
    #[derive(Debug, serde::Deserialize)]
    pub(super) struct Filter<T> {
        pub(super) least: T,
    }
}

type Named<T> = HashMap<String, T>;
type Outcome<T> = Result<Created<T>, Problem>;

struct Arguments;

#[chassis::service]
impl Arguments {
    const LIMIT: Page = Page { limit: None };

    #[get("/kinds/{type}")]
    async fn raw(&self, r#type: String, _unused: Page) -> String {
        r#type
    }

    #[chassis::service::post("/pages/{self_}")]
    async fn pattern(&self, mut self_: u64, Page { limit, .. }: Page) -> u64 {
        self_ += u64::from(limit.unwrap_or_default());
        self_
    }

    #[get("/filtered")]
    async fn generic(&self, filter: nested::Filter<u32>) -> u32 {
        filter.least
    }

    #[put("/named", tags = ["a"],)]
    async fn aliased(&self, named: Named<Vec<Page>>) -> Outcome<usize> {
        Ok(Created::new(named.len() + usize::from(Self::LIMIT.limit.is_some())))
    }

    #[patch("/tuple/{a}/{b}")]
    async fn tuple(&self, b: (u8,), a: u8, r#async: [u8; 2]) -> impl Serialize + use<> {
        (a, b, r#async)
    }

    #[delete("/async-block/{*rest}")]
    async fn block(&self, rest: String) {
        let inner = async { rest.len() };
        let _length = inner.await;
    }

    // Names that generated code uses inside.
    #[post("/service/{router}/{arguments}")]
    async fn service(&self, router: u8, arguments: u8, outcome: u8) -> u8 {
        let (service, value) = (router + arguments, outcome);
        service + value
    }

    pub(crate) async fn not_a_route(&self, missing: impl Into<String>) -> usize {
        missing.into().len()
    }
}

#[tokio::test]
async fn arguments_may_have_any_pattern_and_any_owned_type() {
    let routes = routes::<Arguments>();
    assert_eq!(
        routes,
        [
            "GET /kinds/{type}",
            "POST /pages/{self_}",
            "GET /filtered",
            "PUT /named",
            "PATCH /tuple/{a}/{b}",
            "DELETE /async-block/{*rest}",
            "POST /service/{router}/{arguments}",
        ]
    );
    assert_eq!(Arguments.not_a_route("four").await, 4);
}

struct Keyed;

#[service(version = "v2", path = "/tenants/{tenant}", tag = "shop")]
impl Keyed {
    #[post(
        "/orders/{id}",
        timeout = "1m30s",
        concurrency = 10,
        body_limit = "64KiB",
        idempotent,
        deprecated = "2026-06-30",
        sunset = "2027-06-30",
        tags = ["orders", "writes"],
    )]
    async fn all(&self, id: u64, tenant: String) -> u64 {
        id + tenant.len() as u64
    }

    #[get("/plain", body_limit = 512)]
    async fn plain(&self, tenant: String) -> String {
        tenant
    }
}

#[test]
fn every_key_is_in_the_description() {
    let routes = Keyed::describe();
    assert_eq!(routes[0].path, "/v2/tenants/{tenant}/orders/{id}");
    assert_eq!(routes[0].tags, ["shop", "orders", "writes"]);
    assert_eq!(
        routes[0].policy,
        RoutePolicy::new()
            .timeout(std::time::Duration::from_secs(90))
            .concurrency(10)
            .body_limit(65_536)
            .idempotent()
            // 2026-06-30 and 2027-06-30, 00:00 UTC, as `date -u +%s` has them.
            .deprecated(Deprecation::since(1_782_777_600).sunset(1_814_313_600))
    );
    assert_eq!((&routes[1].tags, routes[1].policy), (&vec!["shop"], RoutePolicy::new().body_limit(512)));
    // The router takes the same templates.
    drop(Arc::new(Keyed).into_router());
}

struct Empty;

#[service]
impl Empty {}

#[test]
fn a_service_may_have_no_routes_yet() {
    assert!(routes::<Empty>().is_empty());
    assert!(Arc::new(Empty).into_grpc().is_none());
}
