//! Tells a team's own code of each request that was turned away or failed.

use std::{
    borrow::Cow,
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::Method;
use opentelemetry::trace::{SpanId, TraceId};
use tonic::Code;

use crate::{
    cause::Cause,
    context::{Protocol, RequestContext},
    telemetry::{log, metrics::code_name},
};

/// Hears of each request that was turned away or failed, once, at its end: to send it to a team's own place.
///
/// Every method does nothing unless it is written. It is called over HTTP, gRPC and gRPC-Web alike, hand-written tonic
/// services included, whichever of these it was:
///
/// - [`rejected`](Self::rejected): the chassis turned the request away, for a [`Cause`],
/// - [`failed`](Self::failed): the service failed: a 5xx, a gRPC code that is the server's fault (`UNKNOWN`,
///   `DEADLINE_EXCEEDED`, `UNIMPLEMENTED`, `INTERNAL`, `UNAVAILABLE`, `DATA_LOSS`), a panic, or an answer that broke off
///   behind its head or told there, as an event stream does, that it failed,
/// - [`declined`](Self::declined): the handler said no to the caller: a 4xx, or any other gRPC code but `OK`.
///
/// A request whose caller went away is neither; the metrics have it as `aborted`. The operators' port is not observed.
///
/// # What it must not do
///
/// It runs on the thread that serves the request, while other requests wait: it must not block, and not take long. Hand
/// what is worth keeping over to a bounded channel, and drop it when the channel is full. A panic of the observer harms no
/// request: it is caught, counted in `chassis.panics`, and the first one is logged.
///
/// ```no_run
/// use chassis::{Chassis, observe::{FailedRequest, FailureObserver}};
/// use tokio::sync::mpsc;
///
/// struct ToTracker(mpsc::Sender<String>);
///
/// impl FailureObserver for ToTracker {
///     fn failed(&self, request: &FailedRequest<'_>) {
///         let why = request.panic().or(request.inside()).unwrap_or("unknown");
///         let report = format!("{} in {:?}: {why}", request.error_type(), request.route());
///         // A tracker that is slower than the failures gets fewer of them; nobody waits for it.
///         let _ = self.0.try_send(report);
///     }
/// }
///
/// # async fn send(_: String) {}
/// #[chassis::main]
/// async fn main(chassis: Chassis) -> chassis::Result<()> {
///     let (reports, waiting) = mpsc::channel(1000);
///     let mut waiting = Some(waiting);
///     chassis
///         .observer(ToTracker(reports))
///         .background("tracker", chassis::tasks::Restart::Never, move |stop| {
///             let waiting = waiting.take();
///             async move {
///                 let Some(mut waiting) = waiting else { return Ok(()) };
///                 while let Some(Some(report)) = stop.run_until_cancelled(waiting.recv()).await {
///                     send(report).await;
///                 }
///                 Ok::<(), std::convert::Infallible>(())
///             }
///         })
///         .serve()
///         .await
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not observe failures",
    label = "expected a `FailureObserver`",
    note = "write `impl chassis::observe::FailureObserver for {Self}` with the methods you want to hear of: `rejected`, `failed`, `declined`"
)]
pub trait FailureObserver: Send + Sync + 'static {
    /// The chassis turned the request away.
    fn rejected(&self, request: &FailedRequest<'_>) {
        let _ = request;
    }

    /// The service failed.
    fn failed(&self, request: &FailedRequest<'_>) {
        let _ = request;
    }

    /// The handler said no to its caller.
    fn declined(&self, request: &FailedRequest<'_>) {
        let _ = request;
    }
}

/// Which of the methods is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Rejected,
    Failed,
    Declined,
}

/// How a request ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub(super) kind: Kind,
    pub(super) cause: Option<Cause>,
    pub(super) error_type: Option<&'static str>,
    /// 0 when no head was made.
    pub(super) status: u16,
    pub(super) code: Option<Code>,
    pub(super) elapsed: Duration,
}

/// A request that was turned away or failed, as its observer sees it.
#[derive(Clone, Copy)]
pub struct FailedRequest<'a> {
    ended: &'a Ended,
    context: &'a RequestContext,
}

impl<'a> FailedRequest<'a> {
    /// The word, the same as in the metrics, the log and the span: a cause, the problem's code, `broken_off`, the gRPC code,
    /// or the status when nobody gave a word.
    #[must_use]
    pub fn error_type(&self) -> Cow<'static, str> {
        match (self.ended.error_type, self.ended.code) {
            (Some(word), _) => word.into(),
            (None, Some(code)) => code_name(code).into(),
            (None, None) => self.ended.status.to_string().into(),
        }
    }

    /// Why the chassis gave the answer; `None` when the handler did.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        self.ended.cause
    }

    /// How the caller speaks.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.context.protocol()
    }

    /// The template of the route that answered: `/orders/{id}`, or `/orders.v1.Orders/{*rest}` for a tonic server. `None`
    /// when no route was reached.
    #[must_use]
    pub fn route(&self) -> Option<&'a str> {
        self.context.route()
    }

    /// The HTTP method; POST for gRPC.
    #[must_use]
    pub fn method(&self) -> &'a Method {
        &self.context.0.method
    }

    /// The path as it was sent, without the query: for gRPC the method, `/orders.v1.Orders/GetOrder`. It can hold what
    /// identifies a person, and has no bounds in number.
    #[must_use]
    pub fn path(&self) -> &'a str {
        self.context.0.target.path()
    }

    /// The HTTP status; `None` over gRPC.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.ended.code.is_none().then_some(self.ended.status)
    }

    /// The gRPC code; `None` over HTTP.
    #[must_use]
    pub fn grpc_code(&self) -> Option<Code> {
        self.ended.code
    }

    /// The trace, the same as in the answer's `x-trace-id`.
    #[must_use]
    pub fn trace_id(&self) -> TraceId {
        self.context.trace().trace_id
    }

    /// The span of this service's work on the request.
    #[must_use]
    pub fn span_id(&self) -> SpanId {
        self.context.trace().span_id
    }

    /// From the request's head to the end of the answer's body.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.ended.elapsed
    }

    /// The other end of the connection, a proxy where there is one; `None` on a Unix socket.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.context.peer()
    }

    /// The error with its sources, which the caller of a 5xx is never shown. `None` when there was no problem with one: a
    /// bare status, or a `tonic::Status` made by hand.
    #[must_use]
    pub fn inside(&self) -> Option<&'a str> {
        self.context.0.inside.get().map(|text| &**text)
    }

    /// What the panic of the handler, or of its body, said.
    #[must_use]
    pub fn panic(&self) -> Option<&'a str> {
        self.context.0.panic.get().map(|text| &**text)
    }
}

impl fmt::Debug for FailedRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailedRequest")
            .field("kind", &self.ended.kind)
            .field("error_type", &self.error_type())
            .field("protocol", &self.protocol())
            .field("route", &self.route())
            .field("trace_id", &self.trace_id())
            .finish_non_exhaustive()
    }
}

/// One observer, whose panics harm nobody.
pub(crate) struct Watcher {
    observer: Arc<dyn FailureObserver>,
    panicked: AtomicBool,
}

impl Watcher {
    pub(super) fn new(observer: Arc<dyn FailureObserver>) -> Self {
        Self { observer, panicked: AtomicBool::new(false) }
    }

    #[cold]
    pub(super) fn tell(&self, ended: &Ended, context: &RequestContext) {
        let request = FailedRequest { ended, context };
        let told = log::caught(|| match ended.kind {
            Kind::Rejected => self.observer.rejected(&request),
            Kind::Failed => self.observer.failed(&request),
            Kind::Declined => self.observer.declined(&request),
        });
        let Err(panic) = told else { return };
        log::count_panic();
        // Once: it is called for every failure, and may panic at each.
        if !self.panicked.swap(true, Ordering::Relaxed) {
            tracing::error!(
                target: "chassis::panic",
                { panic.message = panic.message, panic.location = panic.location },
                "a failure observer panicked; it is called on, and its further panics are counted only"
            );
        }
    }
}
