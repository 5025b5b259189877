use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use tokio::{sync::Notify, time::advance};
use tower_layer::Layer;
use tower_service::Service;

use super::{Cache, CacheConfig, CacheLayer, CacheService, CachedBody};
use crate::{
    client::{Client, RequestBody, TimedOut},
    config::ByteSize,
    context::{RequestContext, TraceContext},
    error::BoxError,
};

const SECOND: Duration = Duration::from_secs(1);

fn config() -> CacheConfig {
    CacheConfig { jitter: 0.0, ..CacheConfig::default() }
}

type Numbers = Cache<&'static str, u32, String>;

async fn fails() -> Result<u32, String> {
    Err("no".to_owned())
}

#[tokio::test]
async fn a_thousand_who_ask_at_once_make_one_fetch() {
    let cache = Numbers::new(&config());
    let (fetches, go) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..1_000 {
        let (cache, fetches, go) = (cache.clone(), Arc::clone(&fetches), Arc::clone(&go));
        callers.spawn(async move {
            let fetch = || async {
                fetches.fetch_add(1, Ordering::SeqCst);
                go.notified().await;
                Ok(7)
            };
            cache.get("pear", fetch).await.map(|found| *found)
        });
    }
    // On this one thread all of them come before the fetch goes on.
    tokio::task::yield_now().await;
    go.notify_one();
    while let Some(found) = callers.join_next().await {
        assert_eq!(found.unwrap().ok(), Some(7));
    }
    assert_eq!(fetches.load(Ordering::SeqCst), 1);
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.shared + stats.hits, stats.fetching), (1, 999, 0));
}

#[tokio::test]
async fn when_the_one_who_fetches_is_cancelled_another_fetches() {
    let cache = Numbers::new(&config());
    let leader = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get("pear", std::future::pending).await.map(|found| *found) }
    });
    while cache.stats().fetching == 0 {
        tokio::task::yield_now().await;
    }
    let followers: Vec<_> = (0..3)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.get("pear", || async { Ok(7) }).await.map(|found| *found) })
        })
        .collect();
    tokio::task::yield_now().await;
    assert!(followers.iter().all(|follower| !follower.is_finished()), "they wait");
    leader.abort();
    for follower in followers {
        assert_eq!(follower.await.unwrap().ok(), Some(7));
    }
    assert_eq!(cache.stats().misses, 2);
    assert_eq!(cache.stats().fetching, 0);
}

#[tokio::test]
async fn one_that_panics_leaves_nobody_waiting() {
    let cache = Numbers::new(&config());
    let leader = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get("pear", || async { panic!("a bug") }).await.map(|found| *found) }
    });
    assert!(leader.await.unwrap_err().is_panic());
    assert_eq!(cache.get("pear", || async { Ok(7) }).await.map(|found| *found).ok(), Some(7));
}

#[tokio::test(start_paused = true)]
async fn an_old_value_is_served_marked_when_a_new_one_cannot_be_had_and_not_for_ever() {
    let cache = Numbers::new(&config());
    let fetched = cache.get("pear", || async { Ok(7) }).await.unwrap();
    assert!(!fetched.is_stale());
    advance(61 * SECOND).await;
    let old = cache.get("pear", fails).await.unwrap();
    assert_eq!((*old, old.is_stale(), old.age()), (7, true, 61 * SECOND));
    // For a second nobody asks again.
    let held = cache.get("pear", || async { panic!("nobody asks") }).await.unwrap();
    assert!(held.is_stale());
    advance(SECOND).await;
    let new = cache.get("pear", || async { Ok(8) }).await.unwrap();
    assert_eq!((*new, new.is_stale()), (8, false));
    advance(Duration::from_secs(60 + 300)).await;
    assert_eq!(cache.get("pear", fails).await.unwrap_err().to_string(), "no");
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.stale, stats.failures), (4, 2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_to_all_who_wait_and_remembered_by_nobody() {
    let cache = Numbers::new(&config());
    let slow = || async {
        tokio::time::sleep(SECOND).await;
        fails().await
    };
    let (one, other) = tokio::join!(cache.get("pear", slow), cache.get("pear", slow));
    assert_eq!((one.unwrap_err().to_string(), other.unwrap_err().to_string()), ("no".to_owned(), "no".to_owned()));
    assert_eq!(cache.stats().misses, 1);
    assert!(cache.get("pear", || async { Ok(7) }).await.is_ok());
}

/// A leader whose fetch fails with this after 100 ms, and four callers with 30 s: how many fetches there were.
async fn a_leader_fails<E: Send + Sync + std::fmt::Debug + 'static>(fail: impl Future<Output = E>) -> u32 {
    let cache: Cache<&'static str, u32, E> = Cache::new(&config());
    let fetches = AtomicU32::new(0);
    let leader = cache.get("pear", || async {
        fetches.fetch_add(1, Ordering::SeqCst);
        Err(fail.await)
    });
    let follow = || {
        cache.get("pear", || async {
            fetches.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(SECOND).await;
            Ok(7)
        })
    };
    let (lead, one, two, three, four) = tokio::join!(leader, follow(), follow(), follow(), follow());
    assert!(lead.is_err());
    for found in [one, two, three, four] {
        assert_eq!(found.map(|found| *found).ok(), Some(7), "a caller with time left gets a value");
    }
    assert_eq!(cache.stats().fetching, 0);
    fetches.load(Ordering::SeqCst)
}

#[tokio::test(start_paused = true)]
async fn a_leaders_time_out_stays_its_own() {
    const LEADER: Duration = Duration::from_millis(100);
    let silent =
        tower::service_fn(|_: Request<RequestBody>| std::future::pending::<Result<Response<Full<Bytes>>, BoxError>>());
    let client = Client::with_service("http://stock", silent).unwrap();
    let call = async || client.call(http::Method::GET, "/").timeout(LEADER).answer::<()>().await.unwrap_err();
    let elapsed = async || tokio::time::timeout(LEADER, std::future::pending::<()>()).await.unwrap_err();
    let status = async |code| {
        tokio::time::sleep(LEADER).await;
        tonic::Status::new(code, "over")
    };
    // One of the followers leads, and the others share what it brings.
    assert_eq!(a_leader_fails(call()).await, 2);
    assert_eq!(a_leader_fails(elapsed()).await, 2);
    assert_eq!(a_leader_fails(status(tonic::Code::DeadlineExceeded)).await, 2);
    assert_eq!(a_leader_fails(status(tonic::Code::Cancelled)).await, 2);
    assert_eq!(a_leader_fails(async { BoxError::from(call().await) }).await, 2);
    assert_eq!(a_leader_fails(async { BoxError::from(elapsed().await) }).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_request_is_over_fails_alone() {
    let context = RequestContext::of_trace(TraceContext {
        trace_id: opentelemetry::trace::TraceId::from(7),
        span_id: opentelemetry::trace::SpanId::from(9),
        parent_id: None,
        flags: opentelemetry::trace::TraceFlags::default(),
        state: None,
    });
    context.limit(crate::clock::now() + Duration::from_millis(100));
    let cache = Numbers::new(&config());
    let slow = || async {
        tokio::time::sleep(SECOND).await;
        fails().await
    };
    let leader = context.scope(cache.get("pear", slow));
    let (one, other) = tokio::join!(leader, cache.get("pear", || async { Ok(7) }));
    assert!(one.is_err());
    assert_eq!(*other.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_is_the_callers_own_is_not_told_to_others() {
    let cache = Numbers::new(&config()).own_failures(|error| error == "no");
    let slow = || async {
        tokio::time::sleep(SECOND).await;
        fails().await
    };
    let (one, other) = tokio::join!(cache.get("pear", slow), cache.get("pear", || async { Ok(7) }));
    assert!(one.is_err());
    assert_eq!(*other.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn that_there_is_none_is_kept_for_its_own_time() {
    let config = CacheConfig { negative_ttl: Some(crate::config::Duration::from_secs(5)), ..config() };
    let cache: Cache<&str, Option<u32>, String> = Cache::new(&config);
    assert_eq!(*cache.get_optional("pear", || async { Ok(None) }).await.unwrap(), None);
    assert_eq!(*cache.get_optional("pear", || async { panic!("nobody asks") }).await.unwrap(), None);
    advance(6 * SECOND).await;
    assert_eq!(*cache.get_optional("pear", || async { Ok(Some(7)) }).await.unwrap(), Some(7));
    advance(6 * SECOND).await;
    assert_eq!(*cache.get_optional("pear", || async { panic!("nobody asks") }).await.unwrap(), Some(7));
}

#[tokio::test(start_paused = true)]
async fn what_was_being_fetched_when_a_value_was_forgotten_is_not_kept() {
    let cache = Numbers::new(&config());
    let slow = || async {
        tokio::time::sleep(SECOND).await;
        Ok(7)
    };
    let (fetched, ()) = tokio::join!(cache.get("pear", slow), async {
        tokio::time::sleep(SECOND / 2).await;
        cache.forget(&"pear").await;
    });
    assert_eq!(*fetched.unwrap(), 7, "who asked before gets what was then");
    assert_eq!(*cache.get("pear", || async { Ok(8) }).await.unwrap(), 8);
    cache.put("pear", 9).await;
    assert_eq!(*cache.get("pear", || async { Ok(10) }).await.unwrap(), 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_is_put_while_another_is_being_kept_stays() {
    let (keeping, kept) = std::sync::mpsc::sync_channel(16);
    let (done, put) = std::sync::mpsc::sync_channel(16);
    let put = std::sync::Mutex::new(put);
    // The fetched value is weighed just before it is kept: there `put` comes in, or has to wait until it is kept.
    let weigh = move |_: &&str, value: &u32| {
        if *value == 7 {
            keeping.send(()).ok();
            put.lock().unwrap().recv_timeout(Duration::from_millis(200)).ok();
        }
        1
    };
    let cache: Numbers = Cache::sized(&config(), 100, weigh);
    let fetched = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get("pear", || async { Ok(7) }).await.map(|found| *found) }
    });
    tokio::task::spawn_blocking(move || kept.recv_timeout(60 * SECOND)).await.unwrap().expect("it is weighed");
    cache.put("pear", 9).await;
    done.send(()).ok();
    assert_eq!(fetched.await.unwrap().ok(), Some(7), "who asked before gets what was then");
    assert_eq!(*cache.get("pear", || async { panic!("it is known") }).await.unwrap(), 9);
}

#[tokio::test]
async fn no_more_values_are_kept_than_the_setting_allows() {
    let cache: Cache<u32, u32, String> = Cache::new(&CacheConfig { entries: 100, ..config() });
    for key in 0..10_000 {
        cache.get(key, || async { Ok(key) }).await.unwrap();
    }
    cache.0.kept.run_pending_tasks().await;
    let stats = cache.stats();
    assert!(stats.entries <= 100, "{stats:?}");
    assert_eq!(stats.evicted, 10_000 - stats.entries);
}

type Answered = Result<Response<Full<Bytes>>, BoxError>;

/// A service that answers what the test says, and counts.
#[derive(Clone)]
struct Origin {
    answers: Arc<dyn Fn(u32) -> Answered + Send + Sync>,
    calls: Arc<AtomicU32>,
    takes: Duration,
}

impl Service<Request<()>> for Origin {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), BoxError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let answer = (self.answers)(call);
        let takes = self.takes;
        Box::pin(async move {
            tokio::task::yield_now().await;
            if !takes.is_zero() {
                tokio::time::sleep(takes).await;
            }
            answer
        })
    }
}

struct Through {
    service: CacheService<Origin>,
    calls: Arc<AtomicU32>,
}

impl Through {
    fn of(answers: impl Fn(u32) -> Answered + Send + Sync + 'static) -> Self {
        Self::layer(&CacheLayer::new(&config()), answers)
    }

    fn layer(layer: &CacheLayer, answers: impl Fn(u32) -> Answered + Send + Sync + 'static) -> Self {
        Self::origin(layer, answers, Duration::ZERO)
    }

    fn origin(layer: &CacheLayer, answers: impl Fn(u32) -> Answered + Send + Sync + 'static, takes: Duration) -> Self {
        let calls = Arc::new(AtomicU32::new(0));
        let origin = Origin { answers: Arc::new(answers), calls: Arc::clone(&calls), takes };
        Self { service: layer.layer(origin), calls }
    }

    async fn ask(&self, request: http::request::Builder) -> Result<Response<CachedBody<Full<Bytes>>>, BoxError> {
        self.service.clone().call(request.body(()).unwrap()).await
    }

    /// Status, body and `cache-status` of a GET.
    async fn get(&self) -> (u16, String, Option<String>) {
        told(self.ask(Request::get("/stock")).await.unwrap()).await
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }
}

async fn told(response: Response<CachedBody<Full<Bytes>>>) -> (u16, String, Option<String>) {
    let status = response.headers().get("cache-status").map(|value| value.to_str().unwrap().to_owned());
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8(body.to_vec()).unwrap(), status)
}

fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answered {
    let response = headers
        .iter()
        .fold(Response::builder().status(status), |response, (name, value)| response.header(*name, *value));
    Ok(response.body(Full::new(body.into())).unwrap())
}

fn hit(body: &str) -> (u16, String, Option<String>) {
    (200, body.to_owned(), Some("chassis; hit".to_owned()))
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_served_again_as_long_as_it_says() {
    let through = Through::of(|call| answer(200, &[("cache-control", "max-age=10")], format!("{call}")));
    assert_eq!(through.get().await.1, "1");
    advance(9 * SECOND).await;
    assert_eq!(through.get().await, hit("1"));
    let kept = through.ask(Request::get("/stock")).await.unwrap();
    assert_eq!(kept.headers()["age"], "9");
    advance(2 * SECOND).await;
    assert_eq!(through.get().await.1, "2");
    // Another query is another resource.
    assert_eq!(told(through.ask(Request::get("/stock?sku=pear")).await.unwrap()).await.1, "3");
}

#[tokio::test]
async fn an_answer_that_must_not_be_kept_is_nobodys_but_the_callers() {
    for forbidden in ["no-store", "private", "no-cache", "max-age=0"] {
        let through = Through::of(move |call| answer(200, &[("cache-control", forbidden)], format!("{call}")));
        let (one, other) = tokio::join!(through.get(), through.get());
        assert_ne!(one.1, other.1, "{forbidden}: two callers at the same time have an answer each");
        assert_eq!((one.2, through.calls()), (None, 2));
    }
    let through = Through::of(|call| answer(200, &[("cache-control", "max-age=10")], format!("{call}")));
    for _ in 0..2 {
        let request = Request::get("/stock").header("authorization", "Bearer x");
        assert_eq!(told(through.ask(request).await.unwrap()).await.2, None);
    }
    assert_eq!(through.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_an_answer_that_will_not_be_shared() {
    let answers = |call| {
        let control = if call <= 3 { "no-store" } else { "max-age=60" };
        answer(200, &[("cache-control", control)], format!("{call}"))
    };
    let through = Through::origin(&CacheLayer::new(&config()), answers, SECOND);
    through.get().await;
    let asked = tokio::time::Instant::now();
    tokio::join!(through.get(), through.get());
    assert_eq!((asked.elapsed(), through.calls()), (SECOND, 3), "side by side, and not after the first of them");
    // One that may be kept ends it.
    through.get().await;
    let (one, other) = tokio::join!(through.get(), through.get());
    assert_eq!((one.1, other.1, through.calls()), ("5".to_owned(), "5".to_owned(), 5));
}

#[tokio::test(start_paused = true)]
async fn that_an_answer_was_not_shared_is_not_remembered_for_long() {
    let answers = |call| {
        let control = if call == 1 { "no-store" } else { "max-age=60" };
        answer(200, &[("cache-control", control)], format!("{call}"))
    };
    let through = Through::origin(&CacheLayer::new(&config()), answers, SECOND);
    through.get().await;
    advance(super::ALONE).await;
    tokio::join!(through.get(), through.get());
    assert_eq!(through.calls(), 2);
}

#[tokio::test]
async fn no_number_of_seconds_is_too_large() {
    for control in ["max-age=18446744073709551615", "max-age=1, stale-if-error=18446744073709551615"] {
        let through = Through::of(move |call| answer(200, &[("cache-control", control)], format!("{call}")));
        through.get().await;
        assert_eq!(through.get().await, hit("1"), "{control}");
    }
}

#[tokio::test]
async fn an_answer_that_varies_is_served_to_those_it_fits() {
    let through = Through::of(|call| answer(200, &[("vary", "accept")], format!("{call}")));
    let ask = async |accept: &str| told(through.ask(Request::get("/").header("accept", accept)).await.unwrap()).await.1;
    assert_eq!(ask("a").await, "1");
    assert_eq!(ask("a").await, "1");
    assert_eq!(ask("b").await, "2");
    let (one, other) = tokio::join!(ask("c"), ask("d"));
    assert_ne!(one, other, "one flight does not carry both");
}

#[tokio::test(start_paused = true)]
async fn a_failing_service_is_covered_by_the_old_answer_for_a_while() {
    type Fails = fn() -> Answered;
    let ways: [Fails; 2] = [|| answer(503, &[], "down"), || Err(TimedOut.into())];
    for fails in ways {
        let through = Through::of(move |call| match call {
            1 => answer(200, &[("cache-control", "max-age=10, stale-if-error=30")], "1"),
            _ => fails(),
        });
        through.get().await;
        advance(11 * SECOND).await;
        let stale = Some("chassis; hit; detail=stale-if-error".to_owned());
        assert_eq!(through.get().await, (200, "1".to_owned(), stale));
        advance(30 * SECOND).await;
        let gone = through.ask(Request::get("/stock")).await;
        assert!(gone.map_or(true, |gone| gone.status() == 503), "no longer than it says");
    }
}

#[tokio::test]
async fn those_who_wait_share_a_failure() {
    let through = Through::of(|_| answer(503, &[], "down"));
    let (one, other) = tokio::join!(through.get(), through.get());
    assert_eq!((&one, through.calls()), (&(503, "down".to_owned(), None), 1));
    assert_eq!(one, other);
    // An error of the transport is found below the shared one.
    let through = Through::of(|_| Err(crate::client::NotSent::new(crate::cause::Cause::CircuitOpen).into()));
    let (one, other) = tokio::join!(through.ask(Request::get("/")), through.ask(Request::get("/")));
    for error in [one.unwrap_err(), other.unwrap_err()] {
        let outcome = crate::client::Outcome::of_error(&error);
        assert_eq!(outcome, crate::client::Outcome::Refused(crate::cause::Cause::CircuitOpen));
    }
    assert_eq!(through.calls(), 1);
    // One whose time was up speaks for himself.
    let through = Through::of(|call| if call == 1 { Err(TimedOut.into()) } else { answer(200, &[], "2") });
    let (one, other) = tokio::join!(through.ask(Request::get("/")), through.ask(Request::get("/")));
    assert!(one.is_err());
    assert_eq!(other.unwrap().status(), StatusCode::OK);
    // So does the service that was told that time.
    let through = Through::of(|call| if call == 1 { answer(504, &[], "late") } else { answer(200, &[], "2") });
    let (one, other) = tokio::join!(through.get(), through.get());
    assert_eq!((one.0, other.0), (504, 200));
}

#[tokio::test]
async fn a_change_takes_the_answer_out() {
    let through = Through::of(|call| answer(200, &[], format!("{call}")));
    through.get().await;
    assert_eq!(through.get().await, hit("1"));
    through.ask(Request::post("/stock")).await.unwrap();
    assert_eq!(through.get().await.1, "3");
}

#[tokio::test]
async fn what_is_not_there_is_kept_only_when_asked_for() {
    let through = Through::of(|call| answer(404, &[], format!("{call}")));
    through.get().await;
    assert_eq!(through.get().await, (404, "2".to_owned(), None));
    let config = CacheConfig { negative_ttl: Some(crate::config::Duration::from_secs(5)), ..config() };
    let through = Through::layer(&CacheLayer::new(&config), |call| answer(404, &[], format!("{call}")));
    through.get().await;
    assert_eq!(through.get().await.1, "1");
}

#[tokio::test]
async fn a_large_answer_is_passed_on_whole_and_not_kept() {
    let layer = CacheLayer::new(&config()).largest(ByteSize::kib(1));
    let through = Through::layer(&layer, |_| answer(200, &[], vec![b'x'; 1025]));
    assert_eq!(through.get().await.1.len(), 1025);
    assert_eq!(through.get().await.2, None);
    assert_eq!(through.calls(), 2);
}
