use super::*;
use crate::service::{Deprecation, RoutePolicy};

fn get(path: &'static str) -> RouteInfo {
    by("shop::Orders", RouteInfo::new(Method::GET, path, "order"))
}

fn by(service: &'static str, mut route: RouteInfo) -> RouteInfo {
    route.service = service;
    route
}

fn asking(path: &'static str, policy: RoutePolicy) -> RouteInfo {
    get(path).policy(policy)
}

#[derive(Default)]
struct Given {
    routes: Vec<RouteInfo>,
    grpc: Vec<(&'static str, GrpcSource)>,
    http: HttpConfig,
    shutdown: ShutdownConfig,
}

impl Given {
    fn routes(routes: impl Into<Vec<RouteInfo>>) -> Self {
        Self { routes: routes.into(), ..Self::default() }
    }

    fn conflicts(&self) -> Vec<String> {
        let facts = Facts {
            routes: &self.routes,
            grpc: &self.grpc,
            own_routes: &["/livez", "/docs"],
            own_grpc: &["grpc.health.v1.Health"],
            http: &self.http,
            shutdown: &self.shutdown,
            last_steps: Duration::from_secs(2),
        };
        check(&facts, &[]).iter().map(ToString::to_string).collect()
    }

    /// The one conflict, which names all of these.
    #[track_caller]
    fn one(&self, parts: &[&str]) {
        let conflicts = self.conflicts();
        assert_eq!(conflicts.len(), 1, "{conflicts:#?}");
        for part in parts {
            assert!(conflicts[0].contains(part), "{part:?} in {}", conflicts[0]);
        }
    }

    #[track_caller]
    fn none(&self) {
        assert_eq!(self.conflicts(), Vec::<String>::new());
    }
}

#[test]
fn a_route_that_asks_for_more_time_than_the_server_gives_is_refused_by_name() {
    let timeout = |seconds| RoutePolicy::new().timeout(Duration::from_secs(seconds));
    Given::routes([asking("/a", timeout(30))]).none();
    Given::routes([asking("/a", timeout(31))]).one(&[
        "Orders::order (GET /a)",
        "timeout = 31s",
        "http.request_timeout = 30s",
        "shorten",
    ]);
    assert_eq!(Given::routes([asking("/a", timeout(31)), asking("/b", timeout(60))]).conflicts().len(), 2);
    // Over gRPC the server has no limit.
    Given::routes([RouteInfo::rpc("shop.v1.Orders", "GetOrder", "order").policy(timeout(60))]).none();
}

#[test]
fn a_route_that_takes_larger_bodies_than_the_server_is_refused_by_name() {
    let limit = |bytes| RoutePolicy::new().body_limit(bytes);
    Given::routes([asking("/a", limit(1 << 20))]).none();
    Given::routes([asking("/a", limit(2 << 20))]).one(&[
        "Orders::order",
        "body_limit = 2MiB",
        "http.body_limit = 1MiB",
    ]);
    // Over gRPC the server has no limit.
    Given::routes([RouteInfo::rpc("shop.v1.Orders", "GetOrder", "order").policy(limit(5 << 20))]).none();
}

#[test]
fn a_limit_of_nothing_is_refused() {
    Given::routes([asking("/a", RoutePolicy::new().concurrency(1))]).none();
    Given::routes([asking("/a", RoutePolicy::new().concurrency(0))]).one(&["Orders::order", "concurrency = 0"]);
    Given::routes([asking("/a", RoutePolicy::new().timeout(Duration::ZERO))]).one(&["Orders::order", "timeout = 0"]);
}

#[test]
fn the_routes_of_one_handler_cannot_have_two_limits() {
    let limit = |route: RouteInfo, n| route.policy(RoutePolicy::new().concurrency(n));
    let rpc = || by("shop::Orders", RouteInfo::rpc("shop.v1.Orders", "GetOrder", "order"));
    Given::routes([limit(get("/a"), 3), limit(rpc(), 3)]).none();
    Given::routes([limit(get("/a"), 3), limit(rpc(), 4)]).one(&[
        "Orders::order",
        "concurrency = 4",
        "GET /a for 3",
        "same number",
    ]);
}

#[test]
fn a_sunset_before_the_deprecation_is_refused_and_one_in_the_past_is_a_warning() {
    let deprecated =
        |since, sunset| asking("/a", RoutePolicy::new().deprecated(Deprecation::since(since).sunset(sunset)));
    Given::routes([deprecated(10, 9)]).one(&["Orders::order", "sunset lies before"]);
    Given::routes([deprecated(10, 20)]).none();
    assert_eq!(warnings(&[deprecated(10, 20)], 19), []);
    let told = warnings(&[deprecated(10, 20)], 20);
    assert!(told[0].to_string().starts_with("Orders::order (GET /a): its sunset has passed"), "{told:?}");
}

#[test]
fn routes_that_answer_the_same_requests_name_each_other() {
    let other = |path| by("shop::Items", RouteInfo::new(Method::GET, path, "item"));
    Given::routes([get("/a/{id}"), other("/a/{id}")])
        .one(&["Items::item (GET /a/{id})", "Orders::order (GET /a/{id})"]);
    Given::routes([get("/a/{id}"), other("/a/{item}")]).one(&["Items::item (GET /a/{item})", "same requests"]);
    let twin = by("lager::Orders", RouteInfo::new(Method::GET, "/a", "order"));
    Given::routes([get("/a"), twin]).one(&["shop::Orders::order", "lager::Orders::order"]);
}

#[test]
fn parameters_and_wildcards_clash_as_the_router_sees_them() {
    let post = |path: &'static str| by("shop::Items", RouteInfo::new(Method::POST, path, "make"));
    Given::routes([get("/a/{id}"), post("/a/{id}")]).none();
    Given::routes([get("/a/{id}"), post("/a/{item}")]).one(&["names a parameter", "/a/{id}", "/a/{item}", "same name"]);
    Given::routes([get("/a/{id}"), post("/a/{*rest}")]).one(&["wildcard", "/a/{id}", "/a/{*rest}"]);
    for (one, other) in [
        ("/a/{id}", "/a/b"),
        ("/a/{id}/x", "/a/{item}/y"),
        ("/{*rest}", "/a/{id}"),
        ("/a/{id}", "/a/{id}/"),
        ("/a{id}", "/a/{id}"),
        ("/a/{{id}}", "/a/{id}"),
    ] {
        assert_eq!(clash(one, other), None, "{one} {other}");
    }
}

/// The rule and the router agree on every pair of these.
#[test]
fn what_the_rule_calls_a_clash_is_what_axum_refuses() {
    let templates = [
        "/a", "/a/{x}", "/a/{y}", "/a/{x}/b", "/a/{y}/c", "/a/{*r}", "/{*r}", "/{x}", "/a/b", "/p{x}", "/p{*r}",
        "/a/{{x}}",
    ];
    for one in templates {
        for other in templates {
            let handler = || axum::routing::get(|| async {});
            let refused = crate::telemetry::log::caught(|| {
                axum::Router::<()>::new().route(one, handler()).merge(axum::Router::new().route(other, handler()))
            });
            assert_eq!(clash(one, other).is_some(), refused.is_err(), "{one} {other}: {:?}", refused.err());
        }
    }
}

#[test]
fn the_chassis_keeps_its_own_paths() {
    Given::routes([get("/livez")]).one(&["Orders::order (GET /livez)", "chassis answers GET /livez itself"]);
    Given::routes([get("/docs/{page}")]).none();
}

#[test]
fn one_grpc_service_is_served_once() {
    let (server, mounted) = (GrpcSource::Server, GrpcSource::Mounted);
    let served = |grpc: &[(&'static str, GrpcSource)]| Given { grpc: grpc.to_vec(), ..Given::default() };
    served(&[("a.Orders", server), ("a.Orders", server)]).one(&["a.Orders", "Chassis::grpc"]);
    served(&[("a.Orders", mounted), ("a.Orders", mounted)]).one(&["a.Orders", "one impl block"]);
    served(&[("grpc.health.v1.Health", server)]).one(&["grpc.health.v1.Health", "itself"]);
    // Streams beside the rpcs of a mounted service.
    served(&[("a.Orders", mounted), ("a.Orders", server), ("a.Items", server)]).none();
    let rpc = || by("shop::Orders", RouteInfo::rpc("a.Orders", "GetOrder", "order"));
    Given::routes([rpc(), rpc()]).one(&["/a.Orders/GetOrder"]);
}

#[test]
fn a_stop_that_outlasts_the_orchestrator_is_refused_with_its_sum() {
    let given = |seconds| Given {
        shutdown: ShutdownConfig {
            orchestrator_grace: Some(config::Duration::from_secs(seconds)),
            ..ShutdownConfig::default()
        },
        ..Given::default()
    };
    Given::default().none();
    given(35).none();
    given(30).one(&["found 30s", "35s", "drain_delay 5s", "grace 25s", "flush 3s", "last steps 2s", "at most 20s"]);
    given(5).one(&["found 5s", "shorten shutdown.drain_delay"]);
}

#[test]
fn everything_is_told_at_once_and_each_thing_once() {
    let zero = || asking("/livez", RoutePolicy::new().concurrency(0).timeout(Duration::from_secs(60)));
    let given = Given {
        shutdown: ShutdownConfig {
            orchestrator_grace: Some(config::Duration::from_secs(1)),
            ..ShutdownConfig::default()
        },
        ..Given::routes([zero()])
    };
    assert_eq!(given.conflicts().len(), 4, "{:#?}", given.conflicts());
    let told = Conflict::new("a.Orders", "no rpc answers Watch");
    let facts = Facts {
        routes: &[],
        grpc: &[],
        own_routes: &[],
        own_grpc: &[],
        http: &HttpConfig::default(),
        shutdown: &ShutdownConfig::default(),
        last_steps: Duration::ZERO,
    };
    assert_eq!(check(&facts, &[told.clone(), told.clone()]), [told]);
}

#[test]
fn a_type_is_named_without_its_modules() {
    assert_eq!(short("shop::Orders"), "Orders");
    assert_eq!(short("shop::Orders<db::Store, alloc::vec::Vec<u8>>"), "Orders<Store, Vec<u8>>");
    assert_eq!(short(""), "");
}
