use http::Method;
use http_body_util::{BodyExt as _, Full, StreamBody};
use proptest::prelude::*;

use super::*;
use crate::{
    client::{
        Outcome,
        hedge::{HEDGE_MIN_SAMPLES, Hedge, HedgeConfig, HedgeLayer},
        retry::{Budget, Retry, RetryConfig, RetryLayer},
        tests::peer::{OK, Peer, Step, after, get, grpc, request, status},
    },
    deadline::http_timeout,
};

const MS: Duration = Duration::from_millis(1);

async fn send(peer: &Peer, request: Request<RequestBody>) -> Result<u16, Outcome> {
    let result = DeadlineLayer::new().layer(peer.clone()).call(request).await;
    result.map(|response| response.status().as_u16()).map_err(|error| Outcome::of_error(&error))
}

fn announced(protocol: Protocol, left: Duration) -> Option<String> {
    let mut headers = HeaderMap::new();
    announce(&mut headers, protocol, left).ok()?;
    let name = if protocol == Protocol::Http { TIMEOUT_HEADER } else { GRPC_TIMEOUT };
    Some(headers[name].to_str().unwrap().to_owned())
}

#[test]
fn what_is_left_is_told_in_the_finest_unit_that_has_room() {
    for (left, grpc, http) in [
        (Duration::ZERO, None, None),
        (Duration::from_nanos(1), Some("1n"), None),
        (MS, Some("1000000n"), Some("1")),
        (Duration::from_nanos(99_999_999), Some("99999999n"), Some("99")),
        (100 * MS, Some("100000u"), Some("100")),
        (Duration::from_micros(99_999_999), Some("99999999u"), Some("99999")),
        (Duration::from_secs(100), Some("100000m"), Some("100000")),
        (Duration::from_secs(100_000), Some("100000S"), Some("100000000")),
        (Duration::from_secs(100_000_000), Some("1666666M"), Some("9999999999")),
        (Duration::from_secs(60 * 100_000_000), Some("1666666H"), Some("9999999999")),
        (Duration::MAX, Some("99999999H"), Some("9999999999")),
    ] {
        assert_eq!(announced(Protocol::Grpc, left).as_deref(), grpc, "{left:?}");
        assert_eq!(announced(Protocol::Http, left).as_deref(), http, "{left:?}");
    }
}

proptest! {
    #[test]
    fn an_endpoint_reads_what_is_left_and_never_more(nanos in 1u64..u64::MAX) {
        let left = Duration::from_nanos(nanos);
        let read = grpc_timeout(announced(Protocol::Grpc, left).unwrap().as_bytes()).expect("well-formed");
        prop_assert!(read <= left && read > left.mul_f64(0.999_998), "{read:?} of {left:?}");
        if let Some(text) = announced(Protocol::Http, left) {
            let read = http_timeout(text.as_bytes()).expect("well-formed");
            prop_assert!(read <= left);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_time_is_up_is_not_sent() {
    let peer = Peer::default();
    assert_eq!(send(&peer, get(0)).await, Err(Outcome::Refused(Cause::DeadlineExceeded)));
    let mut written = grpc(true, 100);
    written.headers_mut().insert(GRPC_TIMEOUT, HeaderValue::from_static("0n"));
    assert_eq!(send(&peer, written).await, Err(Outcome::Refused(Cause::DeadlineExceeded)));
    assert_eq!(peer.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_with_its_time_and_so_does_what_it_has_under_way() {
    let (peer, started) = (Peer::of([Step::Hang]), Instant::now());
    assert_eq!(send(&peer, get(250)).await, Err(Outcome::TimedOut));
    assert_eq!((started.elapsed(), peer.under_way()), (250 * MS, 0));
    assert_eq!(send(&Peer::of([after(249, OK)]), get(250)).await, Ok(200));
    assert_eq!(send(&Peer::of([after(3_600_000, OK)]), get(None)).await, Ok(200), "without a deadline it waits");
}

#[tokio::test(start_paused = true)]
async fn the_earliest_of_all_deadlines_counts_and_the_layers_inside_see_it() {
    for (own, header, expected) in
        [(Some(300), "200m", 200), (Some(100), "200m", 100), (None, "200m", 200), (Some(300), "soon", 300)]
    {
        let (peer, started) = (Peer::of([Step::Hang]), Instant::now());
        let mut request = grpc(true, own);
        request.headers_mut().insert(GRPC_TIMEOUT, HeaderValue::from_static(header));
        assert_eq!(send(&peer, request).await, Err(Outcome::TimedOut));
        assert_eq!(started.elapsed(), expected * MS, "{own:?} {header}");
        assert_eq!(peer.seen()[0].deadline, Some(started + expected * MS));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_for_a_request_ends_a_little_before_it() {
    let trace = crate::context::TraceContext {
        trace_id: opentelemetry::trace::TraceId::from(1),
        span_id: opentelemetry::trace::SpanId::from(1),
        parent_id: None,
        flags: opentelemetry::trace::TraceFlags::default(),
        state: None,
    };
    let context = RequestContext::of_trace(trace);
    let started = Instant::now();
    context.limit(started.into_std() + 80 * MS);
    let peer = Peer::of([Step::Hang]);
    // The service alone, so that the call is made inside of the request.
    let call = async { send(&peer, get(500)).await };
    assert_eq!(context.scope(call).await, Err(Outcome::TimedOut));
    let took = started.elapsed();
    // A twentieth less; timers have a millisecond's grain.
    assert!(took >= 75 * MS && took <= 78 * MS, "{took:?}");
    let now = Instant::now();
    for (left, margin) in [(0, 0), (100, 5), (1_000, 50), (60_000, 50)] {
        assert_eq!(ahead_of(now + left * MS, now), now + (left - margin) * MS, "{left}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_used_alone_makes_the_deadline_known_all_the_same() {
    let mut request = grpc(true, None);
    request.extensions_mut().clear();
    request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    request.headers_mut().insert(GRPC_TIMEOUT, HeaderValue::from_static("50m"));
    let (peer, started) = (Peer::of([Step::Hang]), Instant::now());
    assert_eq!(send(&peer, request).await, Err(Outcome::TimedOut));
    assert_eq!(peer.seen()[0].deadline, Some(started + 50 * MS));
}

type Frames = Pin<Box<dyn futures_core::Stream<Item = Result<Frame<bytes::Bytes>, BoxError>> + Send>>;

/// Sends without end, as fast as it is read, or never.
struct Endless(bool);

impl futures_core::Stream for Endless {
    type Item = Result<Frame<bytes::Bytes>, BoxError>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.0 { Poll::Ready(Some(Ok(Frame::data("x".into())))) } else { Poll::Pending }
    }
}

#[tokio::test(start_paused = true)]
async fn a_grpc_stream_ends_at_the_deadline_with_its_status() {
    for busy in [true, false] {
        let frames: Frames = Box::pin(Endless(busy));
        let started = Instant::now();
        let mut body = Box::pin(DeadlineBody::new(StreamBody::new(frames), Some(started + 40 * MS)));
        if busy {
            for _ in 0..3 {
                assert!(body.frame().await.expect("a frame").expect("no error").is_data());
            }
            tokio::time::advance(40 * MS).await;
        }
        let mut late = 0;
        let end = loop {
            let frame = body.frame().await.expect("the end").expect("no error");
            if frame.is_trailers() {
                break frame;
            }
            late += 1;
        };
        // What could have been ready before.
        assert_eq!(late, if busy { LATE_LIMIT / LATE_FRAME } else { 0 });
        assert_eq!(end.trailers_ref().expect("trailers")["grpc-status"], "4");
        assert_eq!(started.elapsed(), 40 * MS);
        assert!(body.is_end_stream() && body.frame().await.is_none());
    }
}

/// These frames are ready; then it ends, breaks off, or goes on for ever.
struct Listed(std::vec::IntoIter<Frame<bytes::Bytes>>, Option<Poll<()>>);

impl futures_core::Stream for Listed {
    type Item = Result<Frame<bytes::Bytes>, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match (self.0.next(), self.1) {
            (Some(frame), _) => Poll::Ready(Some(Ok(frame))),
            (None, Some(Poll::Ready(()))) => Poll::Ready(None),
            (None, Some(Poll::Pending)) => Poll::Pending,
            (None, None) => Poll::Ready(Some(Err("reset".into()))),
        }
    }
}

/// The statuses in the trailers, and how many frames of data.
async fn read(frames: Vec<Frame<bytes::Bytes>>, then: Option<Poll<()>>, late: bool) -> (Vec<String>, usize) {
    let deadline = Instant::now() + 40 * MS;
    let mut body = Box::pin(DeadlineBody::new(StreamBody::new(Listed(frames.into_iter(), then)), Some(deadline)));
    if late {
        tokio::time::advance(50 * MS).await;
    }
    let (mut ends, mut data) = (Vec::new(), 0);
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(100 * MS, body.frame()).await {
        match frame.trailers_ref() {
            Some(trailers) => ends.push(trailers["grpc-status"].to_str().unwrap().to_owned()),
            None => data += 1,
        }
    }
    (ends, data)
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_there_when_its_reader_comes_late_is_handed_on() {
    let message = || Frame::data("message".into());
    let trailers = || Frame::trailers([("grpc-status".parse().unwrap(), "0".parse().unwrap())].into_iter().collect());
    let (ends, hangs, breaks) = (Some(Poll::Ready(())), Some(Poll::Pending), None);
    for (frames, then, late, expected) in [
        (vec![message(), trailers()], ends, true, ("0", 1)),
        // There is one end, also when nobody has told that the stream ends with its trailers.
        (vec![message(), trailers()], hangs, true, ("0", 1)),
        (vec![message(), trailers()], hangs, false, ("0", 1)),
        (vec![message()], hangs, true, ("4", 1)),
        (vec![message()], hangs, false, ("4", 1)),
        // The other end knows the deadline as well, and may be faster.
        (vec![message()], breaks, true, ("4", 1)),
        (vec![message()], ends, true, ("4", 1)),
    ] {
        let text = format!("{frames:?} {then:?} {late}");
        let (found, data) = read(frames, then, late).await;
        assert_eq!((found, data), (vec![expected.0.to_owned()], expected.1), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_http_answer_may_be_read_for_longer() {
    let mut service = DeadlineLayer::new().layer(Peer::of([OK]));
    let response = service.call(get(50)).await.expect("an answer");
    tokio::time::advance(100 * MS).await;
    assert_eq!(response.into_body().collect().await.expect("the body").to_bytes(), "answer 200");
}

async fn attempt(timeout: Option<u64>, peer: &Peer, request: Request<RequestBody>) -> Result<u16, Outcome> {
    let timeout = AttemptTimeout::new(timeout.map(|millis| millis as u32 * MS));
    let result = AttemptTimeoutLayer::new(timeout).layer(peer.clone()).call(request).await;
    result.map(|response| response.status().as_u16()).map_err(|error| Outcome::of_error(&error))
}

/// Envoy ignores a per-try time that is longer than the route's without a word.
#[tokio::test(start_paused = true)]
async fn an_attempt_ends_with_its_own_time_or_the_calls_whichever_is_first() {
    for (own, call, expected) in
        [(Some(30), Some(100), 30), (Some(100), Some(30), 30), (None, Some(40), 40), (Some(50), None, 50)]
    {
        let (peer, started) = (Peer::of([Step::Hang]), Instant::now());
        assert_eq!(attempt(own, &peer, get(call)).await, Err(Outcome::TimedOut));
        assert_eq!((started.elapsed(), peer.under_way()), (expected * MS, 0), "{own:?} {call:?}");
        // What the pool announces: the attempt's time ends with the head, the endpoint may need longer for the body.
        assert_eq!(peer.seen()[0].deadline, call.map(|millis| started + millis as u32 * MS), "{own:?} {call:?}");
    }
    assert_eq!(attempt(Some(30), &Peer::of([after(29, OK)]), get(None)).await, Ok(200));
}

#[tokio::test(start_paused = true)]
async fn another_time_counts_from_the_next_attempt_on() {
    let timeout = AttemptTimeout::new(None);
    let peer = Peer::default().then(after(50, OK));
    let mut service = AttemptTimeoutLayer::new(timeout.clone()).layer(peer);
    let before = service.call(get(None));
    timeout.configure(Some(20 * MS));
    assert_eq!(timeout.get(), Some(20 * MS));
    assert!(before.await.is_ok());
    assert!(service.call(get(None)).await.is_err());
}

/// The breaker has to hear of an endpoint that never answers, also when the call's deadline ends the attempt: it stands
/// between the two layers, and a future that is dropped tells nothing.
#[tokio::test(start_paused = true)]
async fn layers_between_see_a_time_out_and_no_dropped_call() {
    let peer = Peer::of([Step::Hang]);
    let inner = AttemptTimeoutLayer::new(AttemptTimeout::new(None)).layer(peer);
    let seen = std::sync::Arc::new(std::sync::Mutex::new(None));
    let note = seen.clone();
    let between = Between { inner, note };
    let error = DeadlineLayer::new().layer(between).call(get(100)).await.expect_err("no answer");
    assert_eq!(Outcome::of_error(&error), Outcome::TimedOut);
    assert_eq!(*seen.lock().unwrap(), Some(Outcome::TimedOut));
}

struct Between<S> {
    inner: S,
    note: std::sync::Arc<std::sync::Mutex<Option<Outcome>>>,
}

impl<S> Service<Request<RequestBody>> for Between<S>
where
    S: Service<Request<RequestBody>, Response = Response<Full<bytes::Bytes>>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let (call, note) = (self.inner.call(request), self.note.clone());
        Box::pin(async move {
            let result = call.await;
            *note.lock().unwrap() = result.as_ref().err().map(Outcome::of_error);
            result
        })
    }
}

/// What Envoy documents: the route's time holds for all tries together.
#[tokio::test(start_paused = true)]
async fn all_attempts_share_the_time_of_the_call() {
    let config = RetryConfig { attempts: 5, budget_min: 100, ..RetryConfig::default() };
    let retry = Retry::new(&config, Budget::new(&config, Instant::now().into_std()));
    let peer = Peer::default().then(after(40, status(503)));
    let attempts = AttemptTimeoutLayer::new(AttemptTimeout::new(Some(60 * MS))).layer(peer.clone());
    let started = Instant::now();
    let result = DeadlineLayer::new().layer(RetryLayer::new(retry).layer(attempts)).call(get(100)).await;
    assert!(started.elapsed() <= 100 * MS, "{:?}", started.elapsed());
    assert!(peer.calls() < 5 && peer.under_way() == 0);
    let deadlines: Vec<_> = peer.seen().iter().map(|seen| seen.deadline.expect("a deadline") - started).collect();
    assert!(deadlines.iter().all(|deadline| *deadline == 100 * MS), "{deadlines:?}");
    drop(result);
}

/// Attempts next to a pool have no timer of their own then. Time stands still here unless one is set, so a call that none
/// wakes would never end.
#[tokio::test(start_paused = true)]
async fn the_timer_of_the_call_ends_its_attempts_too_and_each_is_known_to_have_taken_too_long() {
    let seen: std::sync::Arc<std::sync::Mutex<Vec<_>>> = std::sync::Arc::default();
    let watched = |peer: Peer| {
        let seen = std::sync::Arc::clone(&seen);
        let attempts = AttemptTimeoutLayer::new(AttemptTimeout::new(None)).around_a_pool().layer(peer);
        tower::ServiceExt::<Request<RequestBody>>::map_err(attempts, move |error: BoxError| {
            seen.lock().unwrap().push(Outcome::of_error(&error));
            error
        })
    };
    let config = RetryConfig::default();
    let budget = Budget::new(&config, Instant::now().into_std());
    let retries = RetryLayer::new(Retry::new(&config, budget.clone()));
    let started = Instant::now();
    let mut retried = DeadlineLayer::new().layer(retries.layer(watched(Peer::default().then(Step::Hang))));
    assert_eq!(Outcome::of_error(&retried.call(get(250)).await.expect_err("too late")), Outcome::TimedOut);
    assert_eq!((started.elapsed(), std::mem::take(&mut *seen.lock().unwrap())), (250 * MS, vec![Outcome::TimedOut]));

    let config = HedgeConfig { enabled: true, ..HedgeConfig::default() };
    let hedges = HedgeLayer::new(Hedge::new(&config, budget, started.into_std()));
    let peer = Peer::of(std::iter::repeat_n(OK, HEDGE_MIN_SAMPLES as usize)).then(Step::Hang);
    let mut hedged = DeadlineLayer::new().layer(hedges.layer(watched(peer.clone())));
    for _ in 0..HEDGE_MIN_SAMPLES {
        drop(hedged.call(get(250)).await.expect("an answer"));
    }
    // The delay is computed anew once a second.
    tokio::time::advance(Duration::from_secs(2)).await;
    let started = Instant::now();
    assert_eq!(Outcome::of_error(&hedged.call(get(250)).await.expect_err("too late")), Outcome::TimedOut);
    assert_eq!(peer.calls() as u64, HEDGE_MIN_SAMPLES + 2, "with its hedge");
    assert_eq!((started.elapsed(), &*seen.lock().unwrap()), (250 * MS, &vec![Outcome::TimedOut; 2]));
}

/// Takes this long for a connection, to a server that never answers.
#[derive(Clone)]
struct Dial(Duration, std::sync::Arc<std::sync::Mutex<Vec<tokio::net::UnixStream>>>);

impl Service<http::Uri> for Dial {
    type Response = hyper_util::rt::TokioIo<tokio::net::UnixStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let Self(takes, servers) = self.clone();
        Box::pin(async move {
            tokio::time::sleep(takes).await;
            let (ours, theirs) = tokio::net::UnixStream::pair()?;
            servers.lock().unwrap().push(theirs);
            Ok(hyper_util::rt::TokioIo::new(ours))
        })
    }
}

/// What came of an attempt over a pool whose connection takes this long, whether the call's time is told to be up, and whether
/// the endpoint is excused.
async fn connecting(method: Method, takes: u64, attempt: Option<u64>, call: u64) -> (Outcome, bool, bool) {
    use hyper_util::{client::legacy::Client, rt::TokioExecutor};

    let pool: Client<_, RequestBody> =
        Client::builder(TokioExecutor::new()).build(Dial(takes as u32 * MS, Default::default()));
    let pool = tower::ServiceExt::<Request<RequestBody>>::map_err(pool, BoxError::from);
    let timeout = AttemptTimeout::new(attempt.map(|millis| millis as u32 * MS));
    let mut service = AttemptTimeoutLayer::new(timeout).around_a_pool().layer(pool);
    let error =
        service.call(request(method.clone(), method == Method::GET, Some(call))).await.expect_err("nobody answers");
    let mut sources = std::iter::successors(Some(&*error as &dyn std::error::Error), |error| error.source());
    let over = sources.any(crate::client::outcome::is_late_connection);
    (Outcome::of_error(&error), over, crate::client::hurry::excuses_error(&error))
}

/// SYNs that are dropped, and a time that is shorter than `connect_timeout`.
#[tokio::test(start_paused = true)]
async fn an_attempt_whose_time_is_up_before_there_is_a_connection_was_never_sent() {
    // Of what may be sent twice and of what may not, it is seen in different ways.
    for method in [Method::GET, Method::POST] {
        let connecting = |takes, attempt, call| connecting(method.clone(), takes, attempt, call);
        assert_eq!(connecting(10_000, None, 2_000).await, (Outcome::Unreachable, true, false));
        assert_eq!(
            connecting(10_000, None, 300).await,
            (Outcome::Unreachable, true, true),
            "too little for a connection"
        );
        let again = connecting(10_000, Some(200), 300).await;
        assert_eq!(again, (Outcome::Unreachable, false, false), "another attempt may be made");
        assert_eq!(connecting(100, None, 300).await, (Outcome::TimedOut, false, false), "it may have been sent");
    }
}
