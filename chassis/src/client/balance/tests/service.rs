//! Calls through the service, on a clock that stands still until all wait.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tokio::{sync::mpsc, time::Instant};
use tower_service::Service;

use super::{
    super::{Balance, Bypass, Tried, config::BalanceConfig},
    Gate, endpoint, endpoints,
};
use crate::{
    cause::Cause,
    client::{
        CallInfo, NotSent, RequestBody, TimedOut,
        hurry::{Hurried, Hurry},
        tests::peer::untouched,
    },
    context::Protocol,
    discovery::{Endpoint, Updates},
    error::BoxError,
};

/// The frames that a test sends.
#[derive(Debug)]
struct TestBody(mpsc::Receiver<Frame<Bytes>>);

impl Body for TestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

type Answer = Result<Response<TestBody>, BoxError>;
/// What an endpoint answers, and after how long.
type Script = Arc<dyn Fn(&Request<RequestBody>) -> (Duration, Answer) + Send + Sync>;

#[derive(Clone)]
struct Scripted {
    gate: Gate,
    /// How many calls are refused that were to be let through.
    refusals: Arc<AtomicU32>,
    script: Script,
    seen: Arc<Mutex<Vec<(String, bool)>>>,
}

impl Service<Request<RequestBody>> for Scripted {
    type Response = Response<TestBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let bypass = request.extensions().get::<Bypass>().is_some();
        self.seen.lock().unwrap().push((request.uri().to_string(), bypass));
        let (after, answer) = (self.script)(&request);
        Box::pin(async move {
            tokio::time::sleep(after).await;
            answer
        })
    }
}

impl super::super::Available for Scripted {
    fn is_available(&self, now: std::time::Instant) -> bool {
        self.gate.is_available(now)
    }

    fn wait(&self, now: std::time::Instant) -> Option<Duration> {
        self.gate.wait(now)
    }

    fn cap_wait(&self) {
        self.gate.cap_wait();
    }

    fn admit(&mut self, _: std::time::Instant, _: bool) -> Result<(), NotSent> {
        let refused = self.refusals.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        if refused { Err(NotSent::new(Cause::CircuitOpen)) } else { Ok(()) }
    }
}

type Make = Box<dyn Fn(&Endpoint) -> Scripted + Send + Sync>;

struct World {
    updates: Updates,
    balance: Balance<Make>,
    seen: Arc<Mutex<Vec<(String, bool)>>>,
    gate: Gate,
    refusals: Arc<AtomicU32>,
}

/// All endpoints have one gate.
fn world(script: impl Fn(&Request<RequestBody>) -> (Duration, Answer) + Send + Sync + 'static) -> World {
    let (updates, receiver) = Updates::channel();
    let (seen, gate, script): (Arc<Mutex<_>>, _, Script) = (Arc::default(), Gate::default(), Arc::new(script));
    let refusals: Arc<AtomicU32> = Arc::default();
    let service = Scripted { gate: gate.clone(), refusals: Arc::clone(&refusals), script, seen: Arc::clone(&seen) };
    let make: Make = Box::new(move |_| service.clone());
    World { updates, balance: Balance::new(receiver, make, &BalanceConfig::default(), None), seen, gate, refusals }
}

fn answer(status: u16) -> (Answer, mpsc::Sender<Frame<Bytes>>) {
    let (sender, receiver) = mpsc::channel(4);
    (Ok(Response::builder().status(status).body(TestBody(receiver)).unwrap()), sender)
}

fn ok() -> Answer {
    answer(200).0
}

fn request() -> Request<RequestBody> {
    Request::get("http://inventory/items/7?all=true").body(RequestBody::default()).unwrap()
}

fn info(deadline: Duration, protocol: Protocol) -> CallInfo {
    CallInfo::new("/items/{id}", true, Some(Instant::now() + deadline), protocol)
}

fn refusal(error: &BoxError) -> (Cause, String, Option<Duration>) {
    let not_sent = error.downcast_ref::<NotSent>().unwrap_or_else(|| panic!("{error}"));
    (not_sent.cause(), not_sent.to_string(), not_sent.wait())
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Pending, waiting and the estimate in milliseconds of the only endpoint.
fn load(world: &World) -> (u32, u32, Option<u128>) {
    let [(_, load)] = &world.balance.snapshot()[..] else { panic!("more than one") };
    (load.pending, load.waiting, load.rtt.map(|rtt| (rtt.as_micros() + 500) / 1_000))
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_to_the_address_of_the_endpoint_with_its_path() {
    let mut world = world(|_| (ms(0), ok()));
    world.updates.set(vec![Endpoint::at("::1", 8080)]);
    world.balance.call(request()).await.unwrap();
    assert_eq!(*world.seen.lock().unwrap(), [("http://[::1]:8080/items/7?all=true".to_owned(), false)]);
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_the_first_list() {
    let mut world = world(|_| (ms(0), ok()));
    let mut call = Box::pin(world.balance.call(request()));
    assert!(tokio::time::timeout(ms(50), &mut call).await.is_err());
    world.updates.set(endpoints(1));
    call.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_the_first_list_does_so_until_its_deadline() {
    let mut world = world(|_| (ms(0), ok()));
    let mut request = request();
    request.extensions_mut().insert(info(ms(200), Protocol::Http));
    let started = Instant::now();
    let error = world.balance.call(request).await.unwrap_err();
    let (cause, text, _) = refusal(&error);
    assert_eq!((cause, started.elapsed()), (Cause::NoEndpoints, ms(200)));
    assert!(text.ends_with("waited 200ms for the first list of its endpoints"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn when_there_is_nobody_a_call_fails_at_once_and_says_why() {
    let mut world = world(|_| (ms(0), ok()));
    let started = Instant::now();
    let told = async |world: &mut World| refusal(&world.balance.call(request()).await.unwrap_err());
    world.updates.lost(started.into_std(), "the agent does not answer");
    let (cause, text, _) = told(&mut world).await;
    assert_eq!(cause, Cause::NoEndpoints);
    assert!(text.ends_with("its endpoints are not known: the agent does not answer"), "{text}");
    world.updates.set(Vec::new());
    let (cause, text, _) = told(&mut world).await;
    assert_eq!(cause, Cause::NoEndpoints);
    assert!(text.ends_with("the list of its endpoints is empty"), "{text}");
    world.updates.set(endpoints(3));
    world.gate.open();
    let (cause, text, wait) = told(&mut world).await;
    assert_eq!((cause, wait), (Cause::CircuitOpen, Some(Duration::from_secs(1))));
    assert!(text.ends_with("none of 3 endpoints is available"), "{text}");
    assert_eq!(started.elapsed(), ms(0));
    assert_eq!(world.seen.lock().unwrap().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_is_told_when_nobody_will_ever_tell_a_list() {
    let World { updates, mut balance, .. } = world(|_| (ms(0), ok()));
    let mut call = Box::pin(balance.call(request()));
    assert!(tokio::time::timeout(ms(50), &mut call).await.is_err());
    drop(updates);
    for error in [call.await.unwrap_err(), balance.call(request()).await.unwrap_err()] {
        let (cause, text, _) = refusal(&error);
        assert_eq!(cause, Cause::NoEndpoints);
        assert!(text.ends_with("nobody looks for its endpoints any more"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_pending_until_its_answer_ends_and_timed_until_its_head() {
    let (head, sender) = answer(200);
    let head = Mutex::new(Some(head));
    let mut world = world(move |_| (ms(20), head.lock().unwrap().take().unwrap()));
    world.updates.set(endpoints(1));
    let mut call = Box::pin(world.balance.call(request()));
    assert!(poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await.is_pending());
    assert_eq!(load(&world), (1, 1, None));
    let response = call.await.unwrap();
    assert_eq!(load(&world), (1, 0, Some(20)));
    tokio::time::advance(ms(10)).await;
    drop(sender);
    response.into_body().collect().await.unwrap();
    assert_eq!(load(&world), (0, 0, Some(20)));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_is_not_pending() {
    let mut world = world(|_| (ms(20), ok()));
    world.updates.set(endpoints(1));
    drop(world.balance.call(request()).await.unwrap());
    assert_eq!(load(&world), (0, 0, Some(20)));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_took_at_least_that_long() {
    let mut world = world(|_| (ms(60_000), ok()));
    world.updates.set(endpoints(1));
    let call = world.balance.call(request());
    assert!(tokio::time::timeout(ms(700), call).await.is_err());
    assert_eq!(load(&world), (0, 0, Some(700)));
}

#[tokio::test(start_paused = true)]
async fn failures_count_as_their_penalty_or_as_what_the_endpoint_asks_for() {
    let with = |status: u16, name: &'static str, value: &'static str| {
        let mut head = answer(status).0.unwrap();
        head.headers_mut().insert(name, HeaderValue::from_static(value));
        head
    };
    let hurried = |status: u16| {
        let mut head = answer(status).0.unwrap();
        head.extensions_mut().insert(Hurry);
        head
    };
    let busy: BoxError = Box::new(NotSent::new(Cause::CircuitOpen));
    for (after, head, expected) in [
        (10, ok(), Some(10)),
        (10, Ok(with(404, "x", "y")), Some(10)),
        (10, Ok(with(500, "x", "y")), Some(5_000)),
        (9_000, Ok(with(500, "x", "y")), Some(9_000)),
        (10, Ok(with(503, "retry-after", "20")), Some(20_000)),
        (10, Ok(with(429, "retry-after", "1")), Some(5_000)),
        (10, Ok(with(503, "retry-after", "0")), Some(5_000)),
        (10, Ok(with(429, "retry-after", "99999")), Some(300_000)),
        (10, Ok(with(503, "grpc-retry-pushback-ms", "1500")), Some(5_000)),
        (10, Ok(with(503, "grpc-retry-pushback-ms", "6500")), Some(6_500)),
        (10, Err(Box::new(TimedOut).into()), Some(5_000)),
        (10, Err("reset".into()), Some(5_000)),
        // Its call left it too little time: it takes longer than that.
        (10, Err(Hurried(TimedOut.into()).into()), Some(30)),
        (70, Err(Hurried(TimedOut.into()).into()), Some(70)),
        (70, Ok(hurried(504)), Some(70)),
        (10, Ok(hurried(503)), Some(5_000)),
        // It stops: no faster than the default, and not at fault.
        (10, Err(untouched().await), Some(30)),
        // Held back on this side: that says nothing of the endpoint.
        (10, Err(busy), None),
    ] {
        let text = format!("{head:?}", head = head.as_ref().map(|head| head.status()));
        let head = Mutex::new(Some(head));
        let mut world = world(move |_| (ms(after), head.lock().unwrap().take().unwrap()));
        world.updates.set(endpoints(1));
        drop(world.balance.call(request()).await);
        assert_eq!(load(&world), (0, 0, expected), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_grpc_answer_is_judged_by_its_trailers() {
    let trailers = |code: &'static str| Some(("grpc-status", code));
    for (trailers, expected) in [(trailers("0"), 10), (trailers("14"), 5_000), (trailers("5"), 10), (None, 5_000)] {
        let (head, sender) = answer(200);
        let head = Mutex::new(Some(head));
        let mut world = world(move |_| (ms(10), head.lock().unwrap().take().unwrap()));
        world.updates.set(endpoints(1));
        let mut request = request();
        request.extensions_mut().insert(info(ms(1_000), Protocol::Grpc));
        let response = world.balance.call(request).await.unwrap();
        if let Some((name, value)) = trailers {
            let headers: HeaderMap = [(name.parse().unwrap(), HeaderValue::from_static(value))].into_iter().collect();
            sender.send(Frame::trailers(headers)).await.unwrap();
        }
        drop(sender);
        response.into_body().collect().await.unwrap();
        assert_eq!(load(&world), (0, 0, Some(expected)), "{trailers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_whose_rest_does_not_come_in_time_counts_as_a_failure() {
    for (protocol, part, wait, hurry, expected) in [
        (Protocol::Http, false, 1_000, false, 5_000),
        (Protocol::Http, true, 1_000, false, 5_000),
        (Protocol::Http, true, 900, false, 10),
        (Protocol::Grpc, false, 1_000, false, 5_000),
        // A stream, as far as anybody knows.
        (Protocol::Grpc, true, 1_000, false, 10),
        // It could not have come.
        (Protocol::Http, false, 1_000, true, 1_000),
    ] {
        let (mut head, sender) = answer(200);
        if hurry {
            head.as_mut().unwrap().extensions_mut().insert(Hurry);
        }
        let head = Mutex::new(Some(head));
        let mut world = world(move |_| (ms(10), head.lock().unwrap().take().unwrap()));
        world.updates.set(endpoints(1));
        let mut request = request();
        request.extensions_mut().insert(info(ms(1_000), protocol));
        let until = Instant::now() + ms(wait);
        let body = world.balance.call(request).await.unwrap().into_body();
        if part {
            sender.send(Frame::data(Bytes::from_static(b"x"))).await.unwrap();
        }
        assert!(tokio::time::timeout_at(until, body.collect()).await.is_err());
        let found = load(&world);
        let faded = expected == 10;
        assert!(
            found.2 == Some(expected) || faded && found.2 < Some(11),
            "{protocol:?} {part} {wait} {hurry}: {found:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_of_one_call_go_to_different_endpoints() {
    let mut world = world(|_| (ms(0), ok()));
    world.updates.set(endpoints(3));
    let tried = Tried::new();
    for _ in 0..3 {
        let mut request = request();
        request.extensions_mut().insert(tried.clone());
        world.balance.call(request).await.unwrap();
    }
    let mut seen: Vec<_> = world.seen.lock().unwrap().iter().map(|(uri, _)| uri.clone()).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn new_settings_keep_what_is_known() {
    let mut world = world(|_| (ms(20), ok()));
    world.updates.set(endpoints(1));
    drop(world.balance.call(request()).await.unwrap());
    let penalty = Duration::from_secs(60).into();
    world.balance.configure(&BalanceConfig { failure_penalty: penalty, ..BalanceConfig::default() });
    assert_eq!(load(&world), (0, 0, Some(20)));
    let standing = world.balance.standing();
    assert_eq!((standing.endpoints, standing.usable, standing.available, standing.panic), (1, 1, 1, false));
    world.gate.open();
    assert_eq!(world.balance.standing().available, 0);
    world.gate.close();
    world.updates.set(vec![endpoint(1), endpoint(2)]);
    assert_eq!(world.balance.standing().available, 2);
}

/// A reload or an operator's lever must not miss the endpoint that somebody else is making.
#[test]
fn what_must_reach_all_waits_for_an_endpoint_that_is_being_made() {
    let (updates, receiver) = Updates::channel();
    let (began, begins) = std::sync::mpsc::sync_channel(1);
    let (looked, looks) = std::sync::mpsc::sync_channel(1);
    let looks = Mutex::new(looks);
    let balance = Balance::new(
        receiver,
        move |endpoint: &Endpoint| {
            if *endpoint.host == *"10.0.0.1" {
                began.send(()).unwrap();
                // Until the other one is through, which it never is while this goes on.
                let _ = looks.lock().unwrap().recv_timeout(ms(100));
            }
        },
        &BalanceConfig::default(),
        None,
    );
    updates.set(endpoints(1));
    assert_eq!(balance.snapshot().len(), 1);
    updates.set(endpoints(2));
    std::thread::scope(|scope| {
        scope.spawn(|| balance.snapshot());
        begins.recv().unwrap();
        let mut reached = 0;
        balance.for_each_made(|_, (), _| reached += 1);
        let _ = looked.send(());
        assert_eq!(reached, 2);
    });
}

#[tokio::test(start_paused = true)]
async fn a_call_that_a_breaker_refuses_after_the_pick_goes_to_another_endpoint() {
    let mut world = world(|_| (ms(0), ok()));
    world.updates.set(endpoints(3));
    world.refusals.store(1, Relaxed);
    let tried = Tried::new();
    let mut first = request();
    first.extensions_mut().insert(tried.clone());
    world.balance.call(first).await.unwrap();
    assert_eq!(world.seen.lock().unwrap().len(), 1);
    // When all refuse it ends all the same, with the word of the last, and nothing counts as pending.
    world.refusals.store(100, Relaxed);
    let (cause, ..) = refusal(&world.balance.call(request()).await.unwrap_err());
    assert_eq!((cause, world.refusals.load(Relaxed)), (Cause::CircuitOpen, 96));
    assert!(world.balance.snapshot().iter().all(|(_, load)| load.pending == 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_knows_whether_there_is_another_endpoint_for_it() {
    let mut world = world(|_| (ms(0), ok()));
    world.updates.set(endpoints(2));
    let tried = Tried::new();
    assert!(!tried.has_untried(), "nobody was asked yet");
    let attempt = || {
        let mut request = request();
        request.extensions_mut().insert(tried.clone());
        request
    };
    world.balance.call(attempt()).await.unwrap();
    assert!(tried.has_untried());
    world.gate.open();
    assert!(!tried.has_untried(), "the other is not available");
    world.gate.close();
    world.balance.call(attempt()).await.unwrap();
    assert!(!tried.has_untried());
}
