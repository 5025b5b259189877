//! A destination whose calls are looked at, and ways out that do as they are told.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Future, pending, ready},
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper_util::{
    client::legacy::{
        self,
        connect::{HttpConnector, dns::GaiResolver},
    },
    rt::TokioExecutor,
};
use opentelemetry::trace::{TraceFlags, TraceId};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tower_layer::Layer;
use tower_service::Service;

use super::super::*;
use crate::{
    client::{Attempt, RequestBody, replay::Replay},
    context::{RequestContext, TraceContext},
    error::BoxError,
    telemetry::{
        log::{LogConfig, tests::Captured},
        metrics::{MetricsConfig, tests::identity},
        otlp::OtlpSettings,
        provider::Providers,
        sampling::{SamplerKind, SamplingConfig},
    },
    testing::{OtlpReceiver, ReceivedSpan},
};

/// Longer than anything here takes; only a broken promise waits for it.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) type Answer = Result<Response<Body>, BoxError>;
pub(super) type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A way out that answers what it is told to, and keeps what it was asked.
#[derive(Clone, Default)]
pub(super) struct Script {
    answers: Arc<Mutex<VecDeque<Answering>>>,
    asked: Arc<Mutex<Vec<HeaderMap>>>,
}

impl Script {
    pub(super) fn of(answers: impl IntoIterator<Item = Answer>) -> Self {
        let script = Self::default();
        script.answers.lock().unwrap().extend(answers.into_iter().map(|answer| Box::pin(ready(answer)) as Answering));
        script
    }

    pub(super) fn silent() -> Self {
        let script = Self::default();
        script.answers.lock().unwrap().push_back(Box::pin(pending()));
        script
    }

    pub(super) fn asked(&self, name: &str) -> Vec<Option<String>> {
        let asked = self.asked.lock().unwrap();
        asked.iter().map(|headers| headers.get(name).map(|value| value.to_str().unwrap().to_owned())).collect()
    }
}

impl Service<Request<RequestBody>> for Script {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Answering {
        self.asked.lock().unwrap().push(request.headers().clone());
        self.answers.lock().unwrap().pop_front().unwrap()
    }
}

/// Makes a second attempt when the first is answered with 503.
#[derive(Clone)]
pub(super) struct Twice<S>(S);

impl<S, B> Service<Request<RequestBody>> for Twice<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let mut inner = self.0.clone();
        Box::pin(async move {
            let mut again = Replay::of(&request).unwrap().request().unwrap();
            let first = inner.call(request).await;
            if first.as_ref().is_ok_and(|answer| answer.status() != StatusCode::SERVICE_UNAVAILABLE) {
                return first;
            }
            again.extensions_mut().insert(Attempt { previous: 1, hedge: false });
            inner.call(again).await
        })
    }
}

/// One destination, whose spans go to a receiver.
pub(super) struct Fixture {
    receiver: OtlpReceiver,
    providers: Providers,
    metrics: Metrics,
    pub(super) observer: Arc<ClientObserver>,
}

impl Fixture {
    pub(super) async fn new(kind: SamplerKind) -> Self {
        let receiver = OtlpReceiver::start().await.unwrap();
        let env = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), receiver.http_endpoint()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL".to_owned(), "grpc".to_owned()),
            ("OTEL_METRICS_EXPORTER".to_owned(), "none".to_owned()),
        ];
        let sampler = Sampler::new(&SamplingConfig { sampler: kind, ratio: 1.0, ..Default::default() });
        let providers = Providers::new(&OtlpSettings::from_env(&env).unwrap(), &identity(), sampler.clone()).unwrap();
        let metrics =
            Metrics::new(MetricsConfig::default(), providers.resource().clone(), &identity(), |builder| builder);
        let metrics = metrics.unwrap();
        let observer = ClientObserver::new(
            "inventory",
            None,
            Formats::default(),
            sampler,
            providers.sink().clone(),
            &metrics,
            &identity(),
        );
        Self { receiver, providers, metrics, observer: Arc::new(observer) }
    }

    pub(super) async fn sampled() -> Self {
        Self::new(SamplerKind::ParentBasedAlwaysOn).await
    }

    pub(super) async fn unsampled() -> Self {
        Self::new(SamplerKind::ParentBasedAlwaysOff).await
    }

    /// The whole of what is observed around a way out, which is tried twice.
    pub(super) fn around<S>(&self, out: S, endpoint: &Arc<EndpointStats>) -> CallService<Twice<AttemptService<S>>>
    where
        S: Service<Request<RequestBody>>,
    {
        let attempt = AttemptLayer::new(Arc::clone(&self.observer), Arc::clone(endpoint)).layer(out);
        CallLayer::new(Arc::clone(&self.observer)).layer(Twice(attempt))
    }

    /// All that was exported, in the order in which it ended.
    pub(super) async fn spans(self) -> Vec<ReceivedSpan> {
        assert!(self.providers.shutdown(PATIENCE).await);
        self.receiver.spans()
    }

    pub(super) fn scrape(&self) -> String {
        String::from_utf8(self.metrics.render(None).unwrap().1.to_vec()).unwrap()
    }

    /// The sum of the samples of this name with all of these labels.
    pub(super) fn count(&self, name: &str, labels: &[&str]) -> f64 {
        let scrape = self.scrape();
        let of = |line: &&str| {
            line.split(['{', ' ']).next() == Some(name) && labels.iter().all(|label| line.contains(label))
        };
        scrape.lines().filter(of).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }
}

pub(super) fn endpoint(address: SocketAddr) -> Arc<EndpointStats> {
    Arc::new(EndpointStats::new(&Endpoint::at(&address.ip().to_string(), address.port())))
}

pub(super) fn nowhere() -> Arc<EndpointStats> {
    endpoint(SocketAddr::from((Ipv4Addr::LOCALHOST, 9)))
}

pub(super) fn get(uri: &str) -> Request<RequestBody> {
    let mut request = Request::get(uri).body(RequestBody::default()).unwrap();
    request.extensions_mut().insert(CallInfo::new("/items/{id}", true, None, Protocol::Http));
    request
}

pub(super) fn rpc() -> Request<RequestBody> {
    let request = Request::post("http://inventory/inventory.v1.Inventory/Reserve");
    request.header("content-type", "application/grpc").body(RequestBody::default()).unwrap()
}

pub(super) fn status(status: u16) -> Answer {
    Ok(Response::builder().status(status).body(Body::empty()).unwrap())
}

/// An answer over gRPC with a message and, perhaps, trailers.
pub(super) fn message(trailers: Option<&'static str>) -> Answer {
    let data = Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"\0\0\0\0\0")));
    let trailers = trailers.map(|code| {
        Ok(Frame::trailers(HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            HeaderValue::from_static(code),
        )])))
    });
    Ok(Response::new(Body::new(StreamBody::new(tokio_stream_of([Some(data), trailers])))))
}

pub(super) fn tokio_stream_of<T, const N: usize>(items: [Option<T>; N]) -> impl futures_core::Stream<Item = T> {
    struct Items<T>(VecDeque<T>);
    impl<T> Unpin for Items<T> {}
    impl<T> futures_core::Stream for Items<T> {
        type Item = T;
        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<T>> {
            Poll::Ready(self.0.pop_front())
        }
    }
    Items(items.into_iter().flatten().collect())
}

pub(super) fn served(flags: TraceFlags) -> RequestContext {
    RequestContext::of_trace(TraceContext {
        trace_id: TraceId::from(7),
        span_id: SpanId::from(9),
        parent_id: None,
        flags,
        state: None,
    })
}

pub(super) fn parent_sent(traceparent: &Option<String>) -> String {
    traceparent.as_ref().unwrap().split('-').nth(2).unwrap().to_owned()
}

/// A server that answers 503 first, then 200, over HTTP/2 in cleartext; and the traceparents that it saw.
pub(super) async fn flaky_server() -> (SocketAddr, Arc<Mutex<Vec<Option<String>>>>, AbortOnDropHandle<()>) {
    let seen: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
    let keep = Arc::clone(&seen);
    let answer = move |headers: HeaderMap| {
        let mut seen = keep.lock().unwrap();
        seen.push(headers.get("traceparent").map(|value| value.to_str().unwrap().to_owned()));
        let status = if seen.len() == 1 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        ready(status)
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().fallback(answer);
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, seen, AbortOnDropHandle::new(serving))
}

pub(super) type Pool = legacy::Client<Timed<HttpConnector<Timed<GaiResolver>>>, RequestBody>;

/// One connection for all.
pub(super) fn pool() -> Pool {
    let connector = HttpConnector::new_with_resolver(Timed::new(Phase::Dns, GaiResolver::new()));
    legacy::Client::builder(TokioExecutor::new()).http2_only(true).build(Timed::new(Phase::Connect, connector))
}

#[derive(Clone)]
pub(super) struct Boxed<S>(pub(super) S);

impl<S> Service<Request<RequestBody>> for Boxed<S>
where
    S: Service<Request<RequestBody>, Error: Into<BoxError>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let future = self.0.call(request);
        Box::pin(async move { future.await.map_err(Into::into) })
    }
}

/// Runs a future on a runtime of its own, its lines captured.
pub(super) fn lines_of(act: impl Future<Output = ()>) -> Vec<serde_json::Value> {
    let log = Captured::new(&LogConfig::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    log.run(|| runtime.block_on(act));
    let ours = |line: &serde_json::Value| line["target"].as_str().is_some_and(|target| target.contains("client"));
    log.lines().into_iter().filter(ours).collect()
}
