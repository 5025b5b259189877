//! May I keep my own tracing subscriber? `cargo run -p own-tracing-subscriber`, then `curl -i localhost:8080/hello/ada`: the
//! log line is in this service's own format, and bears the trace id that is in the answer.
//!
//! A subscriber that is installed before the chassis stays. Two things make it whole: the trace id, which a line gets from
//! the request that is being served, and the layer that exports the spans of handlers
//! (`OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317`).

use std::fmt;

use chassis::{RequestContext, config::Sources, prelude::*};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    Layer, Registry,
    filter::{LevelFilter, Targets},
    fmt::{FmtContext, FormatEvent, FormatFields, format},
    layer::SubscriberExt,
    registry::LookupSpan,
};

/// Any format, with the trace id in front of what is logged while a request is served.
struct WithTrace<F>(F);

impl<S, N, F> FormatEvent<S, N> for WithTrace<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: format::Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if let Some(request) = RequestContext::current() {
            write!(writer, "[{}] ", request.trace().trace_id)?;
        }
        self.0.format_event(context, writer, event)
    }
}

struct Hello;

#[service]
impl Hello {
    /// Greet somebody.
    #[get("/hello/{name}")]
    async fn hello(&self, name: String) -> String {
        greet(&name)
    }
}

/// A span of this function is a child of the request's.
#[tracing::instrument]
fn greet(name: &str) -> String {
    tracing::info!("greeting");
    format!("hello, {name}")
}

/// What this service has always logged with, and the chassis's layer in it.
fn subscriber() -> impl Subscriber + Send + Sync {
    let filter = std::env::var("RUST_LOG").ok().and_then(|directives| directives.parse::<Targets>().ok());
    let filter = filter.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let lines = tracing_subscriber::fmt::layer().event_format(WithTrace(format().compact())).with_filter(filter);
    Registry::default().with(lines).with(chassis::telemetry::tracing_layer())
}

#[tokio::main]
async fn main() -> chassis::Result<()> {
    // Before the chassis: it takes the place that is free, and leaves one that is not.
    tracing::subscriber::set_global_default(subscriber())?;
    let mut sources = Sources::of_process();
    // Access lines do not come through `tracing`; without them every line on standard output is of this subscriber.
    sources.set.push("log.access.enabled=false".to_owned());
    let chassis: Chassis = Chassis::new(chassis::build_info!(), sources)?;
    chassis.mount(Hello).run().await
}
