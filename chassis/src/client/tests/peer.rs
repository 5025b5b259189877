//! An endpoint that answers as a test wrote it, in place of all that lies inside of a layer.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::Full;
use tower_service::Service;

use crate::{
    cause::Cause,
    client::{Attempt, CallInfo, NotSent, RequestBody, TimedOut, pool::NoConnection},
    context::Protocol,
    error::BoxError,
};

/// What the endpoint does with one request.
#[derive(Clone)]
pub(crate) enum Step {
    Answer(u16, &'static [(&'static str, &'static str)]),
    TimedOut,
    BrokenOff,
    Held(Cause),
    Unreachable,
    Untouched,
    Hang,
    After(Duration, Box<Step>),
}

pub(crate) const OK: Step = Step::Answer(200, &[]);

pub(crate) fn status(status: u16) -> Step {
    Step::Answer(status, &[])
}

pub(crate) fn after(millis: u64, step: Step) -> Step {
    Step::After(Duration::from_millis(millis), Box::new(step))
}

/// What it saw of one request.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) headers: HeaderMap,
    pub(crate) attempt: Option<Attempt>,
    pub(crate) deadline: Option<tokio::time::Instant>,
    pub(crate) at: tokio::time::Instant,
    pub(crate) body: u64,
}

#[derive(Clone, Default)]
pub(crate) struct Peer(Arc<Inner>);

#[derive(Default)]
struct Inner {
    steps: Mutex<VecDeque<Step>>,
    /// After the last step: over and over.
    rest: Mutex<Option<Step>>,
    seen: Mutex<Vec<Seen>>,
    under_way: AtomicU32,
}

impl Peer {
    /// One step for each request; more requests than steps are a mistake of the layer.
    pub(crate) fn of(steps: impl IntoIterator<Item = Step>) -> Self {
        let peer = Self::default();
        peer.0.steps.lock().unwrap().extend(steps);
        peer
    }

    /// The same for all that have no step of their own.
    pub(crate) fn then(self, step: Step) -> Self {
        *self.0.rest.lock().unwrap() = Some(step);
        self
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.0.seen.lock().unwrap().clone()
    }

    pub(crate) fn calls(&self) -> usize {
        self.0.seen.lock().unwrap().len()
    }

    /// Requests that were neither answered nor dropped.
    pub(crate) fn under_way(&self) -> u32 {
        self.0.under_way.load(Relaxed)
    }
}

struct UnderWay(Peer);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.under_way.fetch_sub(1, Relaxed);
    }
}

impl Service<Request<RequestBody>> for Peer {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        self.0.seen.lock().unwrap().push(Seen {
            headers: request.headers().clone(),
            attempt: request.extensions().get::<Attempt>().copied(),
            deadline: request.extensions().get::<CallInfo>().and_then(|info| info.deadline),
            at: tokio::time::Instant::now(),
            body: http_body::Body::size_hint(request.body()).lower(),
        });
        let step = self.0.steps.lock().unwrap().pop_front();
        let step = step.or_else(|| self.0.rest.lock().unwrap().clone()).expect("a request more than expected");
        self.0.under_way.fetch_add(1, Relaxed);
        let under_way = UnderWay(self.clone());
        Box::pin(async move {
            let _under_way = under_way;
            play(step).await
        })
    }
}

async fn play(mut step: Step) -> Result<Response<Full<Bytes>>, BoxError> {
    while let Step::After(wait, then) = step {
        tokio::time::sleep(wait).await;
        step = *then;
    }
    match step {
        Step::Answer(status, headers) => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(*name, *value);
            }
            Ok(response.body(Full::from(format!("answer {status}"))).unwrap())
        }
        Step::TimedOut => Err(Box::new(TimedOut)),
        Step::BrokenOff => Err("the connection broke".into()),
        Step::Held(cause) => Err(Box::new(NotSent::new(cause))),
        Step::Unreachable => Err(unreachable()),
        Step::Untouched => Err(untouched().await),
        Step::Hang | Step::After(..) => std::future::pending().await,
    }
}

/// The pool's own error, of a connector that finds nobody.
fn unreachable() -> BoxError {
    NoConnection::new(std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into()).into()
}

/// The error of a connection that was closed before the request was written.
pub(crate) async fn untouched() -> BoxError {
    let (ours, theirs) = tokio::io::duplex(64);
    let io = hyper_util::rt::TokioIo::new(ours);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.expect("no bytes are needed");
    drop((connection, theirs));
    sender.send_request(Request::new(Full::<Bytes>::default())).await.expect_err("nobody is there").into()
}

/// A call of this method; `millis` is its time.
pub(crate) fn request(method: Method, idempotent: bool, millis: Option<u64>) -> Request<RequestBody> {
    let mut request = Request::new(RequestBody::from(Bytes::from_static(b"body")));
    *request.method_mut() = method;
    *request.uri_mut() = "http://orders/orders/7".parse().unwrap();
    let deadline = millis.map(|millis| tokio::time::Instant::now() + Duration::from_millis(millis));
    request.extensions_mut().insert(CallInfo::new("/orders/{id}", idempotent, deadline, Protocol::Http));
    request
}

/// A GET with this much time.
pub(crate) fn get(millis: impl Into<Option<u64>>) -> Request<RequestBody> {
    request(Method::GET, true, millis.into())
}

/// A gRPC call with this much time.
pub(crate) fn grpc(idempotent: bool, millis: impl Into<Option<u64>>) -> Request<RequestBody> {
    let mut request = request(Method::POST, idempotent, millis.into());
    request.extensions_mut().get_mut::<CallInfo>().unwrap().protocol = Protocol::Grpc;
    request
}
