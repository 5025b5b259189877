//! A receiver of OpenTelemetry data in the test's own process, for a look at what a service really sends.
//!
//! It speaks OTLP over gRPC and over HTTP with protobuf, both on one port of the loopback address, and keeps everything
//! it receives until it is dropped.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use std::time::Duration;
//!
//! let receiver = chassis::testing::OtlpReceiver::start().await?;
//! // … run a service with OTEL_EXPORTER_OTLP_ENDPOINT set to receiver.http_endpoint() …
//! let spans = receiver.wait_for_spans(1, Duration::from_secs(5)).await;
//! assert_eq!(spans[0].attributes["http.response.status_code"], 200);
//! # Ok(()) }
//! ```

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use opentelemetry::trace::{SpanId, SpanKind, Status, TraceId};
use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    metrics::v1::{Metric, metric, number_data_point},
    resource::v1::Resource,
    trace::v1::{Span, span, status},
};
use prost::Message;
use serde_json::Value;
use tokio::{net::TcpListener, sync::Notify, task::JoinSet};
use tokio_util::task::AbortOnDropHandle;
use tonic::server::NamedService;

const PROTOBUF: &str = "application/x-protobuf";

/// Attributes by name.
pub type Attributes = BTreeMap<String, Value>;

/// One span as it arrived.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ReceivedSpan {
    /// The span's name.
    pub name: String,
    /// Which side of a call it describes.
    pub kind: SpanKind,
    /// The trace it belongs to.
    pub trace_id: TraceId,
    /// The span itself.
    pub span_id: SpanId,
    /// The span above it; `None` for the first of a trace.
    pub parent_span_id: Option<SpanId>,
    /// The `tracestate`, empty when there is none.
    pub trace_state: String,
    /// When the work began, on the sender's clock.
    pub start_time: SystemTime,
    /// When the work ended, on the sender's clock.
    pub end_time: SystemTime,
    /// What the span says of the work.
    pub attributes: Attributes,
    /// What happened on the way, and when, in the order it was sent.
    pub events: Vec<(String, SystemTime)>,
    /// How the work ended.
    pub status: Status,
    /// The instrumentation scope: who made the span.
    pub scope: String,
    /// Who sent the span.
    pub resource: Attributes,
}

/// One metric as it arrived, in one export.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ReceivedMetric {
    /// The metric's name.
    pub name: String,
    /// The unit of its values.
    pub unit: String,
    /// What it says of itself.
    pub description: String,
    /// One for each set of attributes.
    pub points: Vec<ReceivedPoint>,
    /// The instrumentation scope: who made the instrument.
    pub scope: String,
    /// Who sent the metric.
    pub resource: Attributes,
}

/// The value of a metric for one set of attributes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ReceivedPoint {
    /// The series' attributes.
    pub attributes: Attributes,
    /// The value of a counter or gauge; the sum of a histogram.
    pub value: f64,
    /// How many measurements a histogram holds; 0 for other kinds.
    pub count: u64,
    /// The upper bounds of a histogram's buckets, the last one (infinity) left out.
    pub bounds: Vec<f64>,
    /// The measurements in each bucket of a histogram.
    pub buckets: Vec<u64>,
}

/// One export request, before it was read.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ReceivedRequest {
    /// The path: `/v1/traces`, or the gRPC method.
    pub path: String,
    /// The headers, gRPC metadata among them.
    pub headers: HeaderMap,
}

#[derive(Debug, Default)]
struct Received {
    requests: Vec<ReceivedRequest>,
    spans: Vec<ReceivedSpan>,
    metrics: Vec<ReceivedMetric>,
}

#[derive(Debug, Default)]
struct Store {
    received: Mutex<Received>,
    arrived: Notify,
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, Received> {
        // What is received is appended whole, so a panic elsewhere leaves it usable.
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_spans(&self, request: ExportTraceServiceRequest) {
        let spans = request.resource_spans.into_iter().flat_map(|of_resource| {
            let resource = resource_attributes(of_resource.resource);
            of_resource.scope_spans.into_iter().flat_map(move |of_scope| {
                let (scope, resource) = (scope_name(of_scope.scope), resource.clone());
                of_scope.spans.into_iter().map(move |span| received_span(span, scope.clone(), resource.clone()))
            })
        });
        self.lock().spans.extend(spans);
        self.arrived.notify_waiters();
    }

    fn keep_metrics(&self, request: ExportMetricsServiceRequest) {
        let metrics = request.resource_metrics.into_iter().flat_map(|of_resource| {
            let resource = resource_attributes(of_resource.resource);
            of_resource.scope_metrics.into_iter().flat_map(move |of_scope| {
                let (scope, resource) = (scope_name(of_scope.scope), resource.clone());
                of_scope.metrics.into_iter().map(move |metric| received_metric(metric, scope.clone(), resource.clone()))
            })
        });
        self.lock().metrics.extend(metrics);
        self.arrived.notify_waiters();
    }

    /// Returns what `look` finds as soon as it is `enough`, or what there is when the time is up.
    async fn wait<T>(&self, timeout: Duration, look: impl Fn(&Received) -> T, enough: impl Fn(&T) -> bool) -> T {
        let wait = async {
            loop {
                // Registered before the look, so that nothing arrives unseen between the two.
                let mut arrived = std::pin::pin!(self.arrived.notified());
                arrived.as_mut().enable();
                let found = look(&self.lock());
                if enough(&found) {
                    return found;
                }
                arrived.await;
            }
        };
        match tokio::time::timeout(timeout, wait).await {
            Ok(found) => found,
            Err(_) => look(&self.lock()),
        }
    }
}

/// A receiver of spans and metrics on a free port of the loopback address. Ends when dropped.
#[derive(Debug)]
pub struct OtlpReceiver {
    address: SocketAddr,
    store: Arc<Store>,
    _server: AbortOnDropHandle<()>,
}

impl OtlpReceiver {
    /// Starts to listen, on the runtime that runs here.
    ///
    /// # Errors
    ///
    /// No port of the loopback address is to be had.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let store = Arc::new(Store::default());
        let server = tokio::spawn(serve(listener, router(Arc::clone(&store))));
        Ok(Self { address, store, _server: AbortOnDropHandle::new(server) })
    }

    /// The value of `OTEL_EXPORTER_OTLP_ENDPOINT` for the protocol `grpc`.
    #[must_use]
    pub fn grpc_endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The value of `OTEL_EXPORTER_OTLP_ENDPOINT` for the protocol `http/protobuf`.
    #[must_use]
    pub fn http_endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The spans received so far, in the order of arrival.
    #[must_use]
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        self.store.lock().spans.clone()
    }

    /// The metrics received so far, in the order of arrival; a metric comes again with every export.
    #[must_use]
    pub fn metrics(&self) -> Vec<ReceivedMetric> {
        self.store.lock().metrics.clone()
    }

    /// The export requests received so far, in the order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.store.lock().requests.clone()
    }

    /// Waits until `count` spans are there and returns all of them; fewer when the time is up.
    pub async fn wait_for_spans(&self, count: usize, timeout: Duration) -> Vec<ReceivedSpan> {
        self.store.wait(timeout, |received| received.spans.clone(), |spans| spans.len() >= count).await
    }

    /// Waits for the latest export of a metric; `None` when the time is up and there was none.
    pub async fn wait_for_metric(&self, name: &str, timeout: Duration) -> Option<ReceivedMetric> {
        let latest = |received: &Received| received.metrics.iter().rev().find(|metric| metric.name == name).cloned();
        self.store.wait(timeout, latest, Option::is_some).await
    }
}

async fn serve(listener: TcpListener, router: Router) {
    // Aborts the connections when it is dropped itself.
    let mut connections = JoinSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // The client is gone again, or the process is out of descriptors: the next try shows.
            Err(_) => {
                tokio::task::yield_now().await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let service = TowerToHyperService::new(router.clone());
        connections.spawn(async move {
            // The sender sees a broken connection by itself.
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn router(store: Arc<Store>) -> Router {
    let grpc = Grpc(Arc::clone(&store));
    Router::new()
        .route("/v1/traces", post(http_traces))
        .route("/v1/metrics", post(http_metrics))
        .route_service(&grpc_path::<TraceServiceServer<Grpc>>(), TraceServiceServer::new(grpc.clone()))
        .route_service(&grpc_path::<MetricsServiceServer<Grpc>>(), MetricsServiceServer::new(grpc))
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(Arc::clone(&store), keep_request))
        .with_state(store)
}

fn grpc_path<S: NamedService>() -> String {
    format!("/{}/{{*method}}", S::NAME)
}

async fn keep_request(State(store): State<Arc<Store>>, request: Request, next: Next) -> Response {
    let kept = ReceivedRequest { path: request.uri().path().to_owned(), headers: request.headers().clone() };
    store.lock().requests.push(kept);
    next.run(request).await
}

async fn http_traces(State(store): State<Arc<Store>>, headers: HeaderMap, body: Bytes) -> Response {
    read(&headers, body).map_or_else(IntoResponse::into_response, |request| {
        store.keep_spans(request);
        written(&ExportTraceServiceResponse::default())
    })
}

async fn http_metrics(State(store): State<Arc<Store>>, headers: HeaderMap, body: Bytes) -> Response {
    read(&headers, body).map_or_else(IntoResponse::into_response, |request| {
        store.keep_metrics(request);
        written(&ExportMetricsServiceResponse::default())
    })
}

fn read<M: Message + Default>(headers: &HeaderMap, body: Bytes) -> Result<M, (StatusCode, String)> {
    match headers.get(header::CONTENT_TYPE) {
        Some(found) if found == PROTOBUF => {}
        found => return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("found {found:?}, expected {PROTOBUF}"))),
    }
    M::decode(body).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))
}

fn written(message: &impl Message) -> Response {
    ([(header::CONTENT_TYPE, PROTOBUF)], message.encode_to_vec()).into_response()
}

#[derive(Clone)]
struct Grpc(Arc<Store>);

#[tonic::async_trait]
impl TraceService for Grpc {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.0.keep_spans(request.into_inner());
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Grpc {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, tonic::Status> {
        self.0.keep_metrics(request.into_inner());
        Ok(tonic::Response::new(ExportMetricsServiceResponse::default()))
    }
}

fn received_span(span: Span, scope: String, resource: Attributes) -> ReceivedSpan {
    let kind = match span.kind() {
        span::SpanKind::Server => SpanKind::Server,
        span::SpanKind::Client => SpanKind::Client,
        span::SpanKind::Producer => SpanKind::Producer,
        span::SpanKind::Consumer => SpanKind::Consumer,
        span::SpanKind::Internal | span::SpanKind::Unspecified => SpanKind::Internal,
    };
    let status = span.status.unwrap_or_default();
    ReceivedSpan {
        kind,
        name: span.name,
        trace_id: <[u8; 16]>::try_from(span.trace_id.as_slice()).map_or(TraceId::INVALID, TraceId::from_bytes),
        span_id: span_id(&span.span_id).unwrap_or(SpanId::INVALID),
        parent_span_id: span_id(&span.parent_span_id),
        trace_state: span.trace_state,
        start_time: time(span.start_time_unix_nano),
        end_time: time(span.end_time_unix_nano),
        attributes: attributes(span.attributes),
        events: span.events.into_iter().map(|event| (event.name, time(event.time_unix_nano))).collect(),
        status: match status.code() {
            status::StatusCode::Unset => Status::Unset,
            status::StatusCode::Ok => Status::Ok,
            status::StatusCode::Error => Status::error(status.message),
        },
        scope,
        resource,
    }
}

fn span_id(bytes: &[u8]) -> Option<SpanId> {
    <[u8; 8]>::try_from(bytes).ok().map(SpanId::from_bytes).filter(|id| *id != SpanId::INVALID)
}

fn time(unix_nanos: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(unix_nanos)
}

fn received_metric(metric: Metric, scope: String, resource: Attributes) -> ReceivedMetric {
    let points = match metric.data {
        Some(metric::Data::Gauge(gauge)) => gauge.data_points.into_iter().map(number).collect(),
        Some(metric::Data::Sum(sum)) => sum.data_points.into_iter().map(number).collect(),
        Some(metric::Data::Histogram(histogram)) => histogram
            .data_points
            .into_iter()
            .map(|point| ReceivedPoint {
                attributes: attributes(point.attributes),
                value: point.sum.unwrap_or_default(),
                count: point.count,
                bounds: point.explicit_bounds,
                buckets: point.bucket_counts,
            })
            .collect(),
        // The chassis makes no metric of another kind.
        _ => Vec::new(),
    };
    ReceivedMetric { name: metric.name, unit: metric.unit, description: metric.description, points, scope, resource }
}

#[allow(clippy::cast_precision_loss)] // Counts in tests are far below 2^53.
fn number(point: opentelemetry_proto::tonic::metrics::v1::NumberDataPoint) -> ReceivedPoint {
    ReceivedPoint {
        attributes: attributes(point.attributes),
        value: match point.value {
            Some(number_data_point::Value::AsInt(value)) => value as f64,
            Some(number_data_point::Value::AsDouble(value)) => value,
            None => f64::NAN,
        },
        count: 0,
        bounds: Vec::new(),
        buckets: Vec::new(),
    }
}

fn resource_attributes(resource: Option<Resource>) -> Attributes {
    attributes(resource.unwrap_or_default().attributes)
}

fn scope_name(scope: Option<InstrumentationScope>) -> String {
    scope.unwrap_or_default().name
}

fn attributes(pairs: Vec<KeyValue>) -> Attributes {
    pairs.into_iter().map(|pair| (pair.key, pair.value.map_or(Value::Null, value))).collect()
}

fn value(any: AnyValue) -> Value {
    match any.value {
        Some(any_value::Value::StringValue(text)) => text.into(),
        Some(any_value::Value::BoolValue(truth)) => truth.into(),
        Some(any_value::Value::IntValue(number)) => number.into(),
        Some(any_value::Value::DoubleValue(number)) => number.into(),
        Some(any_value::Value::ArrayValue(array)) => array.values.into_iter().map(value).collect(),
        Some(any_value::Value::KvlistValue(list)) => attributes(list.values).into_iter().collect(),
        Some(any_value::Value::BytesValue(bytes)) => bytes.into(),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn waiting_ends_when_the_time_is_up() {
        let receiver = OtlpReceiver::start().await.unwrap();
        assert!(receiver.wait_for_spans(1, Duration::from_millis(1)).await.is_empty());
        assert!(receiver.wait_for_metric("jobs", Duration::from_millis(1)).await.is_none());
    }

    #[tokio::test]
    async fn port_is_closed_after_drop() {
        let receiver = OtlpReceiver::start().await.unwrap();
        let address = receiver.address;
        drop(receiver);
        let closed = async { while tokio::net::TcpStream::connect(address).await.is_ok() {} };
        assert!(tokio::time::timeout(Duration::from_secs(20), closed).await.is_ok());
    }
}
