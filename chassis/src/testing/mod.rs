//! For tests of services: the whole service in the test's process, and everything it says of itself to look at.
//!
//! ```
//! # #[derive(serde::Serialize)] struct Greeting { text: &'static str }
//! # struct Hello;
//! # #[chassis::service]
//! # impl Hello { #[get("/hello")] async fn hello(&self) -> Greeting { Greeting { text: "hello" } } }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> chassis::Result<()> {
//! use chassis::{Chassis, testing::TestService};
//!
//! let service = TestService::start(|chassis: Chassis| chassis.mount(Hello)).await?;
//! let answer = service.get("/hello").await?;
//! assert_eq!(answer.status, 200);
//! assert_eq!(answer.json()["text"], "hello");
//! service.stop().await?;
//! # Ok(()) }
//! ```
//!
//! Each service listens on ports of its own, so tests run beside each other. Metrics, spans and access lines are each
//! service's own; events of `tracing` go to the one subscriber of the process, so look them up by trace id.
//! That subscriber, its filter and its form are those of the first service; a span that a handler makes goes to the service
//! whose request it belongs to, one made outside of requests to nobody.
//! Pure decisions need none of this: pass them the time.

mod assemble;
mod otlp_receiver;

use std::{
    io::{self, Write},
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

pub use assemble::Assembled;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
pub use otlp_receiver::{Attributes, OtlpReceiver, ReceivedMetric, ReceivedPoint, ReceivedRequest, ReceivedSpan};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    Bound, Chassis, Error, Handle, Result,
    chassis::{Need, Purpose, fetch, load},
    config::Sources,
    identity::BuildInfo,
    settings::{NoSettings, STANDARD_VARIABLES},
    telemetry::log::{LineSink, Report},
};

/// What the service under test says of its build.
const BUILD: BuildInfo = BuildInfo {
    name: "service-under-test",
    version: "1.2.3",
    git_commit: Some("0123abcd"),
    built_at: "2026-01-01T00:00:00Z",
};

/// How long a test waits for what should come at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// The lines of all services of the process. Bounded by the tests' own length.
static LINES: LazyLock<Captured> = LazyLock::new(Captured::new);

struct Captured {
    bytes: Arc<Mutex<Vec<u8>>>,
    sink: io::Result<LineSink>,
}

struct Append(Arc<Mutex<Vec<u8>>>);

impl Write for Append {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Captured {
    fn new() -> Self {
        let bytes = Arc::default();
        // Far above what tests log, so that nothing is dropped.
        let sink = LineSink::new(Append(Arc::clone(&bytes)), 64 << 20, Report::Here(Box::new(|_, _| {})));
        Self { bytes, sink }
    }
}

/// Every log line of the process so far, as JSON.
#[must_use]
pub fn log_lines() -> Vec<Value> {
    if let Ok(sink) = &LINES.sink {
        sink.flush(PATIENCE);
    }
    let bytes = LINES.bytes.lock().unwrap_or_else(PoisonError::into_inner);
    bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// The log lines that carry this trace id.
#[must_use]
pub fn log_lines_of(trace_id: &str) -> Vec<Value> {
    log_lines().into_iter().filter(|line| line["trace_id"] == trace_id).collect()
}

/// How a service under test is configured. See [`TestService::builder`].
#[derive(Debug, Clone, Default)]
pub struct TestServiceBuilder {
    set: Vec<String>,
    env: Vec<(String, String)>,
    files: Vec<std::path::PathBuf>,
}

impl TestServiceBuilder {
    /// Sets one value of the configuration: `.set("http.body_limit", "1KiB")`.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.set.push(format!("{key}={value}"));
        self
    }

    /// Sets one variable of the service's environment; the process's own is not looked at.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Reads a configuration file.
    #[must_use]
    pub fn file(mut self, path: impl Into<std::path::PathBuf>) -> Self {
        self.files.push(path.into());
        self
    }

    /// Sends every span and metric to this receiver, over gRPC.
    #[must_use]
    pub fn export_to(self, receiver: &OtlpReceiver) -> Self {
        self.env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.grpc_endpoint()).env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    }

    /// Puts the service together, starts it and waits until it serves. `make` is the function that `main` calls; it may give
    /// the chassis, a `Result` of it, or be `async`: see [`Assembled`].
    ///
    /// # Errors
    /// What the assembly, or the service itself, fails with.
    pub async fn start<S, R, M>(self, make: impl FnOnce(Chassis<S>) -> R) -> Result<TestService>
    where
        S: DeserializeOwned + JsonSchema + Send + Sync + 'static,
        R: Assembled<S, M>,
    {
        let mut set = vec![
            "http.address=127.0.0.1:0".to_owned(),
            "admin.address=127.0.0.1:0".to_owned(),
            "log.format=json".to_owned(),
        ];
        set.extend(self.set);
        let sources = Sources {
            // No files unless they are named.
            dir: std::path::PathBuf::from("no-such-folder"),
            files: self.files,
            env: self.env,
            standard: STANDARD_VARIABLES.map(|(variable, key)| (variable.to_owned(), key.to_owned())).to_vec(),
            set,
            ..Sources::default()
        };
        let (sources, kv) = fetch(&BUILD, sources, Need::AsConfigured).await?;
        let loaded = load::<S>(&sources, Purpose::Serve)?;
        let sink = LINES.sink.as_ref().map_err(|error| Error::internal(format!("no thread for the log: {error}")))?;
        let mut chassis = Chassis::build(BUILD, sources, loaded, Some(sink.clone()), Purpose::Serve)?;
        chassis.kv = kv;
        let chassis = make(chassis).assembled().await?;
        let handle = chassis.handle();
        let served = AbortOnDropHandle::new(tokio::spawn(chassis.serve()));
        let Some(bound) = handle.bound().await else {
            served.await.map_err(|error| Error::internal(format!("the service panicked: {error}")))??;
            return Err(Error::internal("the service ended before it served"));
        };
        let client = Client::builder(TokioExecutor::new()).build_http();
        Ok(TestService { handle, bound, served, client })
    }
}

/// A service that runs in the test's process. Dropped, it ends at once; [`stop`](TestService::stop) ends it in order.
#[derive(Debug)]
pub struct TestService {
    handle: Handle,
    bound: Bound,
    served: AbortOnDropHandle<Result<()>>,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct TestResponse {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl TestResponse {
    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header as text; empty when it is absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl TestService {
    /// Starts a service with the defaults of the dev profile, on free ports. `make` as in [`TestServiceBuilder::start`].
    ///
    /// # Errors
    /// What the assembly, or the service itself, fails with.
    pub async fn start<R, M>(make: impl FnOnce(Chassis<NoSettings>) -> R) -> Result<Self>
    where
        R: Assembled<NoSettings, M>,
    {
        Self::builder().start(make).await
    }

    /// A service with values of its own.
    #[must_use]
    pub fn builder() -> TestServiceBuilder {
        TestServiceBuilder::default()
    }

    /// The handle of the service.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Where it listens.
    #[must_use]
    pub fn bound(&self) -> &Bound {
        &self.bound
    }

    /// The address of the main port.
    ///
    /// # Panics
    /// When it listens on a Unix socket.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a test that asks for a port has configured one")]
    pub fn http(&self) -> SocketAddr {
        self.bound.http.tcp().expect("the service listens on a Unix socket")
    }

    /// The address of the operators' port.
    ///
    /// # Panics
    /// When it has none, or listens on a Unix socket.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a test that asks for a port has configured one")]
    pub fn admin(&self) -> SocketAddr {
        self.bound.admin.as_ref().and_then(|address| address.tcp()).expect("the service has no operators' port")
    }

    /// GET on the main port.
    ///
    /// # Errors
    /// When no whole answer came.
    pub async fn get(&self, path: &str) -> Result<TestResponse> {
        self.send(Request::get(format!("http://{}{path}", self.http())).body(String::new())?).await
    }

    /// POST of JSON on the main port.
    ///
    /// # Errors
    /// When no whole answer came.
    pub async fn post(&self, path: &str, json: impl Into<String>) -> Result<TestResponse> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}{path}", self.http()))
            .header(http::header::CONTENT_TYPE, "application/json");
        self.send(request.body(json.into())?).await
    }

    /// GET on the operators' port.
    ///
    /// # Errors
    /// When no whole answer came.
    pub async fn operator(&self, path: &str) -> Result<TestResponse> {
        self.send(Request::get(format!("http://{}{path}", self.admin())).body(String::new())?).await
    }

    /// Any request, with an absolute URI.
    ///
    /// # Errors
    /// When no whole answer came.
    pub async fn send(&self, request: Request<String>) -> Result<TestResponse> {
        let response = self.client.request(request.map(|body| Full::new(Bytes::from(body)))).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(TestResponse { status: parts.status, headers: parts.headers, body })
    }

    /// The metrics as they are now, as Prometheus text.
    ///
    /// # Errors
    /// When no whole answer came.
    pub async fn metrics(&self) -> Result<String> {
        Ok(self.operator("/metrics").await?.text())
    }

    /// Stops the service in order, without its drain delay, and flushes its telemetry.
    ///
    /// # Errors
    /// What the service ended with.
    pub async fn stop(self) -> Result<()> {
        self.handle.stop(true);
        self.ended().await
    }

    /// Waits for a stop that somebody else began, and flushes the telemetry.
    ///
    /// # Errors
    /// What the service ended with.
    pub async fn ended(self) -> Result<()> {
        let served: JoinHandle<Result<()>> = self.served.detach();
        let ended = served.await.map_err(|error| Error::internal(format!("the service panicked: {error}")))?;
        self.handle.flush(PATIENCE).await;
        ended
    }
}
