//! Parts that do not agree are a reason not to start: exit code 78, all of them at once, before any port opens.

use std::{convert::Infallible, net::TcpListener, time::Duration};

use axum::{Router, routing::get};
use chassis::{
    Chassis,
    error::Exit,
    service::{Deprecation, RouteInfo, RoutePolicy, Routes},
    tasks::Restart,
    testing::{TestService, TestServiceBuilder, log_lines},
};
use http::Method;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::support::{
    echo::Echo,
    process::{PATIENCE, Quickstart},
    shop::Shop,
    witness::Witness,
};

/// What a service that must not start says.
async fn refused(builder: TestServiceBuilder, make: impl FnOnce(Chassis) -> Chassis) -> String {
    let error = builder.start(make).await.map(|_| ()).expect_err("a refusal");
    assert_eq!(error.exit(), Exit::Config, "{error}");
    error.to_string()
}

#[track_caller]
fn assert_tells(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{part:?} in\n{said}");
    }
}

fn route(service: &'static str, path: &'static str, handler: &'static str, policy: RoutePolicy) -> Routes {
    let mut info = RouteInfo::new(Method::GET, path, handler).policy(policy);
    info.service = service;
    Routes { router: Router::new().route(path, get(|| async { "here" })), infos: vec![info], grpc: None }
}

fn plain(path: &'static str) -> Router {
    Router::new().route(path, get(|| async { "plain" }))
}

#[tokio::test]
async fn a_name_is_given_to_one_check_and_one_task() {
    let idle = |stop: CancellationToken| async move {
        stop.cancelled().await;
        Ok::<(), Infallible>(())
    };
    let up = || async { Ok::<(), Infallible>(()) };
    let down = || async { Err::<(), _>(chassis::health::CheckError::down("gone")) };
    let said = refused(TestService::builder(), |chassis| {
        chassis.health().reporter("queue", chassis::health::Criticality::Critical).up();
        chassis
            .check("store", down)
            .check("store", up)
            .check("queue", up)
            .check("event_loop", up)
            .background("sweep", Restart::default(), idle)
            .background("sweep", Restart::default(), idle)
            .background("leader:billing", Restart::default(), idle)
    })
    .await;
    assert_tells(
        &said,
        &[
            "5 conflicts between the parts of the service:",
            "health check store: another check has this name already; give one of them another name",
            "health check queue: another check has this name already",
            "health check event_loop: the chassis has a check of this name itself; choose another name",
            "background task sweep: two background tasks of this name were added",
            "background task leader:billing: the chassis has a background task of this name itself",
        ],
    );
}

#[tokio::test]
async fn every_conflict_is_told_at_once_with_both_sides_and_no_port_opens() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let builder = TestService::builder().set("http.address", address);
    let said = refused(builder, |chassis| {
        let policy = RoutePolicy::new;
        chassis
            .mount(route("shop::Orders", "/orders/{id}", "order", policy().timeout(Duration::from_secs(60))))
            .mount(route("shop::Items", "/orders/{item}", "item", policy().body_limit(2 << 20)))
            .mount(route("shop::Probe", "/livez", "alive", policy().concurrency(0)))
            .mount(plain("/docs/x"))
            .mount(plain("/docs/x"))
            .grpc(Echo(Witness::new()))
            .grpc(Echo(Witness::new()))
    })
    .await;
    assert_tells(
        &said,
        &[
            "7 conflicts between the parts of the service:",
            "Orders::order (GET /orders/{id}): asks for timeout = 1m, which is longer than http.request_timeout = 30s",
            "Items::item (GET /orders/{item}): asks for body_limit = 2MiB, which is larger than http.body_limit = 1MiB",
            "Items::item (GET /orders/{item}): answers the same requests as Orders::order (GET /orders/{id})",
            "Probe::alive (GET /livez): found concurrency = 0",
            "Probe::alive (GET /livez): stands where the chassis answers GET /livez itself; choose another path",
            "Router: it cannot be served beside what was mounted before it: ",
            "`GET /docs/x`",
            "test.v1.Echo: two tonic servers of this name",
        ],
    );
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[tokio::test]
async fn a_refusal_ends_what_was_begun_and_whoever_waits_for_the_addresses_is_told() {
    // The first is found by the rules, the second when the routes are put together.
    for router in [plain("/readyz"), plain("/test.v1.Echo/{method}")] {
        let (told, mut ends) = mpsc::channel(2);
        let mut handle = None;
        let hook = told.clone();
        let error = TestService::builder().start(|chassis: Chassis| {
            handle = Some(chassis.handle());
            let task = move |stop: CancellationToken| {
                let told = told.clone();
                async move {
                    stop.cancelled().await;
                    told.try_send("task").unwrap();
                    Ok::<_, Infallible>(())
                }
            };
            chassis
                .background("worker", Restart::OnFailure, task)
                .on_shutdown("store", || async move { hook.try_send("hook").unwrap() })
                .mount(router)
                .grpc(Echo(Witness::new()))
        });
        let error = error.await.map(|_| ()).expect_err("a refusal");
        assert_eq!(error.exit(), Exit::Config, "{error}");
        let ended = timeout(PATIENCE, async { (ends.recv().await, ends.recv().await) });
        assert_eq!(ended.await.expect("both come to their end"), (Some("task"), Some("hook")));
        let bound = timeout(PATIENCE, handle.unwrap().bound()).await.expect("it says that there is none");
        assert_eq!(bound, None);
    }
}

#[tokio::test]
async fn plain_routers_that_clash_are_refused_and_not_a_panic() {
    let change = "change the path or the method of one";
    let keep = "keep one fallback, and take the other away with Router::reset_fallback";
    for (one, other, found, advice) in [
        (plain("/a"), plain("/a"), "`GET /a`", change),
        (plain("/a/{x}"), plain("/a/{y}"), "/a/{x}", change),
        (plain("/a/{x}"), plain("/a/{*rest}"), "/a/{x}", change),
        (plain("/a").fallback(|| async {}), plain("/b").fallback(|| async {}), "fallback", keep),
    ] {
        let said = refused(TestService::builder(), |chassis| chassis.mount(one).mount(other)).await;
        assert_tells(&said, &["1 conflict ", "Router: ", found, advice]);
    }
    let said = refused(TestService::builder(), |chassis| chassis.mount(plain("/readyz"))).await;
    assert_tells(&said, &["1 conflict ", "`GET /readyz`", "choose another path"]);
    assert!(
        !log_lines().iter().any(|line| line["panic.message"].as_str().is_some_and(|text| text.contains("/readyz")))
    );
}

#[tokio::test]
async fn a_route_below_the_path_of_a_grpc_service_is_refused() {
    let said = refused(TestService::builder(), |chassis| {
        chassis.mount(plain("/test.v1.Echo/{method}")).grpc(Echo(Witness::new()))
    });
    assert_tells(&said.await, &["clash with the gRPC services", "/test.v1.Echo/", "change their path"]);
}

struct Torn;

impl chassis::service::IntoRoutes for Torn {
    fn into_routes(self) -> Routes {
        let router = Router::new().route("/x/{one}", get(|| async {})).route("/x/{two}", get(|| async {}));
        Routes { router, infos: Vec::new(), grpc: None }
    }
}

#[tokio::test]
async fn a_service_whose_own_routes_clash_is_named_with_the_line() {
    let said = refused(TestService::builder(), |chassis| chassis.mount(Torn)).await;
    assert_tells(&said, &["Torn: its routes cannot be put together: ", "/x/{one}", "policy_coherence.rs:"]);
}

#[tokio::test]
async fn what_agrees_starts_and_the_rpcs_of_a_service_stand_beside_a_tonic_server() {
    let shop = Shop::new();
    let service = TestService::start(|chassis: Chassis| {
        chassis.mount(shop.routes()).mount(plain("/livez/more")).grpc(Echo(Witness::new()))
    });
    assert_eq!(service.await.unwrap().get("/livez/more").await.unwrap().text(), "plain");
    let said = refused(TestService::builder(), |chassis| chassis.mount(shop.routes()).mount(shop.routes())).await;
    assert_tells(&said, &["test.v1.Shop: two mounted services serve rpcs of this name", "/test.v1.Shop/Busy"]);
}

#[tokio::test]
async fn a_sunset_that_has_passed_is_a_warning() {
    let policy = RoutePolicy::new().deprecated(Deprecation::since(0).sunset(1));
    let gone = route("shop::Gone", "/gone", "long_gone", policy);
    let service = TestService::start(|chassis: Chassis| chassis.mount(gone)).await.unwrap();
    assert_eq!(service.get("/gone").await.unwrap().header("sunset"), "Thu, 01 Jan 1970 00:00:01 GMT");
    let warned = log_lines().into_iter().find(|line| {
        line["message"].as_str().is_some_and(|text| text.contains("Gone::long_gone (GET /gone): its sunset has passed"))
    });
    assert_eq!(warned.unwrap()["level"], "WARN");
}

#[tokio::test]
async fn a_stop_that_outlasts_the_orchestrator_is_refused_at_start_and_by_config_check() {
    let prod = || Quickstart::new().arguments(&["--profile", "prod"]).set("shutdown.orchestrator_grace", "30s");
    for command in [&["serve"][..], &["config", "check"]] {
        let ended = prod().arguments(command).run().await;
        assert_eq!(ended.code, Some(78), "{}", ended.stderr);
        assert_tells(
            &ended.stderr,
            &[
                "shutdown.orchestrator_grace: found 30s, and a stop can take 35s",
                "lower shutdown.grace to at most 20s",
                "(command line --set shutdown.orchestrator_grace)",
            ],
        );
    }
    let ended = prod().set("shutdown.grace", "20s").arguments(&["config", "check"]).run().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[tokio::test]
async fn shutdown_hooks_count_among_the_last_steps() {
    // The dev profile: 0 s delay, 25 s grace, 3 s flush, 2 s of last steps, and one for the hook.
    let builder = || TestService::builder().set("shutdown.orchestrator_grace", "30s");
    let service = builder().start(|chassis: Chassis| chassis).await.unwrap();
    service.stop().await.unwrap();
    let said = refused(builder(), |chassis| chassis.on_shutdown("store", || async {})).await;
    assert_tells(&said, &["a stop can take 31s", "last steps 3s"]);
}
