//! Exporters that cannot hang, cannot panic and do not fail in silence.
//!
//! The SDK calls an exporter from a plain thread, without a limit and without a runtime. [`Exporter`] adds what is
//! missing: one limit for an export with its retries, an end when telemetry is shut down, counts of what was delivered
//! and what was lost, and one log line when a receiver is lost and one when it is found again. [`HttpClient`] does its
//! work on the runtime, because hyper panics on a thread without one.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use opentelemetry_http::HttpError;
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig, WithTonicConfig};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    metrics::{Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
    trace::{SpanData, SpanExporter},
};
use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{metadata::MetadataMap, transport::Endpoint};

use super::{MetricSettings, Protocol, Target, diagnose::other_protocol};
use crate::error::Error;

/// The largest answer that is read: a receiver's answer is a few bytes; the limit is the one of the SDK's own clients.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// How long the receiver is asked for its protocol. Chosen: an answer takes a round trip, and the next export waits.
const DIAGNOSIS: Duration = Duration::from_secs(2);

/// The signal whose variables say TRACES.
const SPANS: &str = "spans";

/// What became of spans, from the end of the span to the receiver's answer. All are totals, but `queued`.
#[derive(Debug, Default)]
pub(crate) struct SpanCounts {
    /// Waiting for export now.
    pub(super) queued: AtomicUsize,
    pub(super) exported: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) failed: AtomicU64,
}

impl SpanCounts {
    pub(crate) fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    pub(crate) fn exported(&self) -> u64 {
        self.exported.load(Ordering::Relaxed)
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Takes a place in the queue; counts the span as dropped when there is none.
    pub(crate) fn enter_queue(&self, capacity: usize) -> bool {
        let room = self.queued.fetch_add(1, Ordering::Relaxed) < capacity;
        if !room {
            self.queued.fetch_sub(1, Ordering::Relaxed);
            self.drop_one();
        }
        room
    }

    pub(crate) fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// An exporter of the SDK's OTLP crate with a limit, an end and a voice.
pub(crate) struct Exporter<E> {
    inner: E,
    signal: &'static str,
    url: Uri,
    protocol: Protocol,
    /// The limit of one export, retries included.
    limit: Duration,
    /// Ends all exports at once.
    stop: CancellationToken,
    runtime: Handle,
    spans: Arc<SpanCounts>,
    failing: AtomicBool,
}

impl<E> fmt::Debug for Exporter<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").field("signal", &self.signal).field("url", &self.url).finish_non_exhaustive()
    }
}

impl<E: Sync> Exporter<E> {
    async fn limited(&self, export: impl Future<Output = OTelSdkResult> + Send) -> OTelSdkResult {
        // The SDK's thread has no timer of its own. A runtime that is gone ends the sleep, and so the export, at once.
        let limit = self.limit;
        let timer = AbortOnDropHandle::new(self.runtime.spawn(async move { tokio::time::sleep(limit).await }));
        let result = tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(OTelSdkError::AlreadyShutdown),
            result = export => result,
            _ = timer => Err(OTelSdkError::Timeout(limit)),
        };
        self.tell(&result, || self.diagnosis()).await;
        result
    }

    /// Which setting is wrong, when the receiver speaks the other protocol.
    async fn diagnosis(&self) -> Option<String> {
        let (url, protocol, signal) = (self.url.clone(), self.protocol, self.variables());
        let ask = async move { tokio::time::timeout(DIAGNOSIS, other_protocol(&url, protocol, signal)).await };
        let task = AbortOnDropHandle::new(self.runtime.spawn(ask));
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            answer = task => answer.ok()?.ok()?,
        }
    }

    /// How the signal is called in the names of variables.
    fn variables(&self) -> &'static str {
        if self.signal == SPANS { "TRACES" } else { "METRICS" }
    }

    /// Only a change is worth a line: a receiver that is down for an hour must not fill the log. The diagnosis is made when
    /// one is.
    async fn tell<D: Future<Output = Option<String>> + Send>(
        &self,
        result: &OTelSdkResult,
        diagnosis: impl FnOnce() -> D + Send,
    ) {
        let failing = result.is_err();
        if self.failing.swap(failing, Ordering::Relaxed) == failing {
            return;
        }
        let (signal, url) = (self.signal, &self.url);
        match result {
            Ok(()) => tracing::info!(signal, %url, "telemetry is delivered again"),
            Err(error) => {
                let hint = diagnosis().await;
                tracing::warn!(signal, %url, %error, hint, "telemetry cannot be delivered and is lost until the receiver answers");
            }
        }
    }
}

impl SpanExporter for Exporter<opentelemetry_otlp::SpanExporter> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.spans.queued.fetch_sub(spans, Ordering::Relaxed);
        let result = self.limited(self.inner.export(batch)).await;
        let counter = if result.is_ok() { &self.spans.exported } else { &self.spans.failed };
        counter.fetch_add(spans as u64, Ordering::Relaxed);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl PushMetricExporter for Exporter<opentelemetry_otlp::MetricExporter> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.limited(self.inner.export(metrics)).await
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.inner.temporality()
    }
}

/// What all exporters of one process share.
#[derive(Debug, Clone)]
pub(crate) struct Exporting {
    pub(crate) runtime: Handle,
    pub(crate) stop: CancellationToken,
    pub(crate) spans: Arc<SpanCounts>,
}

impl Exporting {
    /// The exporter of spans to a target.
    pub(crate) fn span_exporter(
        &self,
        target: &Target,
        limit: Duration,
    ) -> Result<Exporter<opentelemetry_otlp::SpanExporter>, Error> {
        let builder = opentelemetry_otlp::SpanExporter::builder();
        let inner = match target.protocol {
            Protocol::Grpc => builder
                .with_tonic()
                .with_timeout(target.timeout)
                .with_channel(self.channel(target)?)
                .with_metadata(MetadataMap::from_headers(target.headers.clone()))
                .build(),
            Protocol::HttpProtobuf => builder
                .with_http()
                .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
                .with_timeout(target.timeout)
                .with_endpoint(target.url.to_string())
                .with_http_client(self.http_client(target))
                .build(),
        };
        Ok(self.wrap(inner.map_err(cannot_build)?, SPANS, target, limit))
    }

    /// The exporter of metrics to a target.
    pub(crate) fn metric_exporter(
        &self,
        target: &Target,
        settings: &MetricSettings,
    ) -> Result<Exporter<opentelemetry_otlp::MetricExporter>, Error> {
        let builder = opentelemetry_otlp::MetricExporter::builder().with_temporality(settings.temporality);
        let inner = match target.protocol {
            Protocol::Grpc => builder
                .with_tonic()
                .with_timeout(target.timeout)
                .with_channel(self.channel(target)?)
                .with_metadata(MetadataMap::from_headers(target.headers.clone()))
                .build(),
            Protocol::HttpProtobuf => builder
                .with_http()
                .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
                .with_timeout(target.timeout)
                .with_endpoint(target.url.to_string())
                .with_http_client(self.http_client(target))
                .build(),
        };
        Ok(self.wrap(inner.map_err(cannot_build)?, "metrics", target, settings.export_timeout))
    }

    fn wrap<E>(&self, inner: E, signal: &'static str, target: &Target, limit: Duration) -> Exporter<E> {
        Exporter {
            inner,
            signal,
            url: target.url.clone(),
            protocol: target.protocol,
            limit,
            stop: self.stop.clone(),
            runtime: self.runtime.clone(),
            spans: Arc::clone(&self.spans),
            failing: AtomicBool::new(false),
        }
    }

    fn channel(&self, target: &Target) -> Result<tonic::transport::Channel, Error> {
        // The channel's worker is spawned on the runtime that is entered here.
        let _entered = self.runtime.enter();
        let endpoint = Endpoint::from_shared(target.url.to_string()).map_err(cannot_build)?;
        Ok(endpoint.timeout(target.timeout).connect_timeout(target.timeout).connect_lazy())
    }

    fn http_client(&self, target: &Target) -> HttpClient {
        HttpClient {
            inner: Client::builder(TokioExecutor::new()).build_http(),
            headers: target.headers.clone(),
            timeout: target.timeout,
            runtime: self.runtime.clone(),
        }
    }
}

fn cannot_build(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::internal("cannot build the exporter of telemetry").caused_by(error)
}

/// A client for the SDK that works on any thread: the request runs on the runtime.
#[derive(Debug)]
struct HttpClient {
    inner: Client<HttpConnector, Full<Bytes>>,
    headers: HeaderMap,
    /// The limit of one request, answer included.
    timeout: Duration,
    runtime: Handle,
}

#[tonic::async_trait]
impl opentelemetry_http::HttpClient for HttpClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let mut request = request.map(Full::new);
        request.headers_mut().extend(self.headers.clone());
        let (client, timeout) = (self.inner.clone(), self.timeout);
        let exchange = async move {
            let (head, body) = client.request(request).await?.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await?.to_bytes();
            Ok::<_, HttpError>(Response::from_parts(head, body))
        };
        // An export that is given up must not leave its request behind.
        let task =
            AbortOnDropHandle::new(self.runtime.spawn(async move { tokio::time::timeout(timeout, exchange).await }));
        let result = task.await.map_err(HttpError::from).and_then(|in_time| in_time?);
        if let Err(error) = &result {
            // The SDK says no more than "network error".
            tracing::debug!(%error, "a request with telemetry failed");
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::{Layer, layer::Context, prelude::*};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<AtomicU64>);

    impl<S: tracing::Subscriber> Layer<S> for Lines {
        fn on_event(&self, _: &tracing::Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_lost_receiver_is_told_once_and_its_return_once() {
        let exporter = Exporter {
            inner: (),
            signal: "spans",
            url: Uri::default(),
            protocol: Protocol::Grpc,
            limit: Duration::MAX,
            stop: CancellationToken::new(),
            runtime: Handle::current(),
            spans: Arc::default(),
            failing: AtomicBool::new(false),
        };
        let lines = Lines::default();
        let _default = tracing::subscriber::set_default(tracing_subscriber::registry().with(lines.clone()));
        let failure = || Err(OTelSdkError::Timeout(Duration::ZERO));
        let mut told = Vec::new();
        for result in [Ok(()), failure(), failure(), Ok(()), Ok(())] {
            exporter.tell(&result, || async { None }).await;
            told.push(lines.0.load(Ordering::Relaxed));
        }
        assert_eq!(told, [0, 1, 1, 2, 2]);
    }
}
