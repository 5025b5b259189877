//! Two parts of the stack alone: what a closed breaker costs a call, and how a pick grows with the number of endpoints.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use chassis::{
    BoxError,
    client::{
        Outcome, RequestBody,
        balance::{Available, Balance, config::BalanceConfig},
        breaker::{Breaker, BreakerConfig},
    },
    discovery::{Endpoint, Updates},
};
use http::{Request, Response};
use http_body_util::Empty;
use tower_service::Service;

/// Of a round; the figure is that of the best one, which nothing else on the machine has disturbed.
const CALLS: u32 = 20_000;
const ROUNDS: usize = 101;

/// Nanoseconds of a permit and its record, with the time as an argument, as the layer has it already.
pub(crate) fn breaker() -> f64 {
    let breaker = Breaker::new(&BreakerConfig::default());
    let now = Instant::now();
    let took = Duration::from_millis(3);
    best(|| {
        if let Ok(permit) = breaker.admit(black_box(now)) {
            permit.record(Outcome::Success, black_box(took), now);
        }
    })
}

/// Nanoseconds of a whole passage through the balancer: the clock, the pick, the address, the load that is counted.
pub(crate) fn balance(endpoints: u16) -> f64 {
    let (updates, list) = Updates::channel();
    updates.set((0..endpoints).map(|port| Endpoint::at("10.0.0.1", 1024 + port)).collect());
    let mut balance = Balance::new(list, |_: &Endpoint| Answers, &BalanceConfig::default(), None);
    let mut call = || {
        let mut request = Request::new(RequestBody::default());
        *request.uri_mut() = http::Uri::from_static("http://shop/stock");
        let answer = pin!(balance.call(request));
        match answer.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => drop(black_box(answer)),
            Poll::Pending => {}
        }
    };
    // Each endpoint has answered once: until then it costs nothing.
    (0..u32::from(endpoints) * 20).for_each(|_| call());
    best(call)
}

fn best(mut call: impl FnMut()) -> f64 {
    let round = |_| {
        let start = Instant::now();
        (0..CALLS).for_each(|_| call());
        start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}

/// An endpoint that answers at once.
#[derive(Clone)]
struct Answers;

impl Available for Answers {
    fn is_available(&self, _: Instant) -> bool {
        true
    }
}

impl Service<Request<RequestBody>> for Answers {
    type Response = Response<Empty<Bytes>>;
    type Error = BoxError;
    type Future = Ready<Result<Response<Empty<Bytes>>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<RequestBody>) -> Self::Future {
        ready(Ok::<_, Infallible>(Response::new(Empty::new())).map_err(|never| match never {}))
    }
}
