//! The whole process, for services whose `main` the chassis makes: command line, runtime, signals, exit code.

use std::{pin::pin, process::ExitCode, sync::atomic::Ordering, time::Duration};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Chassis, Core, Need, Purpose, fetch, load};
use crate::{
    cli::{self, Cli, Command},
    error::{Error, Exit, Result},
    identity::BuildInfo,
    server::handed,
    shutdown::{Haste, haste},
    telemetry::log::LineSink,
};

/// What a service's `main` takes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not what `main` takes",
    label = "expected `Chassis`, or `Chassis<Settings>`",
    note = "write `async fn main(chassis: chassis::Chassis) -> chassis::Result<()>`"
)]
pub trait MainArgument {
    /// The service's own settings.
    type Settings: DeserializeOwned + JsonSchema + Send + Sync + 'static;

    /// The chassis, as the argument.
    fn of(chassis: Chassis<Self::Settings>) -> Self;
}

impl<S: DeserializeOwned + JsonSchema + Send + Sync + 'static> MainArgument for Chassis<S> {
    type Settings = S;

    fn of(chassis: Self) -> Self {
        chassis
    }
}

/// How a service's `main` ends.
#[diagnostic::on_unimplemented(
    message = "`main` cannot end with `{Self}`",
    label = "expected `chassis::Result<()>`",
    note = "write `-> chassis::Result<()>`: `?` makes a `chassis::Error` of every error"
)]
pub trait MainResult {
    /// How it went.
    fn into_result(self) -> Result<()>;
}

impl MainResult for Result<()> {
    fn into_result(self) -> Self {
        self
    }
}

/// How a service's `main` ended; apart from [`main`], so that a wrong type is told where it is written.
///
/// # Errors
/// What it ended with.
pub fn ended<R: MainResult>(result: R) -> Result<()> {
    result.into_result()
}

/// What `#[chassis::main]` expands to: the whole process, from the command line to the exit code.
pub fn main<A, F, Fut>(build: BuildInfo, body: F) -> ExitCode
where
    A: MainArgument,
    F: FnOnce(A) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let body = |chassis| body(A::of(chassis));
    let exit = match cli::parse(&build) {
        Err(exit) => exit,
        Ok(cli) => match cli::run::<A::Settings>(&cli, &build).unwrap_or_else(|| serve(&cli, build, body)) {
            Ok(()) => Exit::Success,
            Err(error) => {
                cli::complain(&build, &error);
                error.exit()
            }
        },
    };
    ExitCode::from(exit.code())
}

fn serve<S, F, Fut>(cli: &Cli, build: BuildInfo, body: F) -> Result<()>
where
    S: DeserializeOwned + JsonSchema + Send + Sync + 'static,
    F: FnOnce(Chassis<S>) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let sources = cli.sources();
    // Before the process has a thread: it changes the environment.
    handed::claim();
    // First of all, so that a signal is heard while a slow disk gives the configuration, which says how the service's own
    // runtime is built. What is heard now waits until that runtime listens.
    let early = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_runtime)?;
    let mut signals = {
        let _inside = early.enter();
        Signals::install()?
    };
    // Who only lists what the service is made of needs no store, and uses it when it is there.
    let need = match cli.command() {
        Command::Routes { .. } | Command::Openapi { .. } => Need::IfThere,
        _ => Need::AsConfigured,
    };
    let fetched = early.block_on(async {
        tokio::select! {
            biased;
            () = signals.asked_to_stop() => None,
            fetched = fetch(&build, sources, need) => Some(fetched),
        }
    });
    // Nothing was begun that would have to end.
    let Some(fetched) = fetched else { return Ok(()) };
    let (sources, kv) = fetched?;
    // Who only lists what the service is made of calls nothing.
    let purpose = match cli.command() {
        Command::Routes { .. } | Command::Layers { .. } | Command::Openapi { .. } => Purpose::List,
        _ => Purpose::Serve,
    };
    let loaded = load::<S>(&sources, purpose)?;
    let threads = usize::from(loaded.0.value().runtime.worker_threads);
    let mut runtime = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if threads > 1 {
        runtime.worker_threads(threads);
    }
    let runtime = runtime.thread_name(build.name).enable_all().build().map_err(no_runtime)?;
    drop(early);
    let ended = runtime.block_on(async {
        let command = cli.command();
        // Whoever lists routes or layers reads standard output; a failure is told on standard error all the same.
        let output = (command != Command::Serve).then(LineSink::nowhere).transpose()?;
        let mut chassis = Chassis::<S>::build(build, sources, loaded, output, purpose)?;
        chassis.kv = kv;
        chassis.command = command;
        chassis.ready_file.clone_from(&cli.ready_file);
        live(chassis, signals, body).await
    });
    runtime.shutdown_timeout(cli::RUNTIME_END);
    ended
}

fn no_runtime(error: std::io::Error) -> Error {
    Error::unavailable("cannot start the async runtime").caused_by(error)
}

/// What asks a service to stop.
pub(super) trait Stops {
    /// Passes on what is asked. Returns at a wish to stop that comes while the service does not serve, when that ends it.
    ///
    /// Cancel safe.
    async fn listen(&mut self, core: &Core);
}

impl<T: Stops> Stops for &mut T {
    async fn listen(&mut self, core: &Core) {
        T::listen(self, core).await;
    }
}

/// Runs the service's `main` under the signals, then flushes.
pub(super) async fn live<S, F, Fut>(chassis: Chassis<S>, mut signals: impl Stops, body: F) -> Result<()>
where
    S: DeserializeOwned + JsonSchema + Send + Sync + 'static,
    F: FnOnce(Chassis<S>) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let core = chassis.core.clone();
    // Lives as long as the service, so that the configuration it ends with counts.
    let settings = chassis.settings_in_effect.subscribe();
    let ended = {
        let mut listening = pin!(signals.listen(&core));
        let mut body = pin!(body(chassis));
        tokio::select! {
            biased;
            ended = &mut body => ended,
            // Only when the service does not serve yet: then there is nothing to drain.
            () = &mut listening => Ok(()),
        }
    };
    if let Err(error) = &ended {
        tracing::error!(%error, exit_code = error.exit().code(), "the service failed");
    }
    let flush = settings.borrow().value().shutdown.flush.get();
    let mut flushed = pin!(core.telemetry.clone().shutdown(flush));
    loop {
        tokio::select! {
            biased;
            () = &mut flushed => return ended,
            // The third signal counts here too.
            () = signals.listen(&core) => {}
        }
    }
}

/// The signals that a service obeys.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// How many have asked for the end.
    stops: u32,
}

impl Signals {
    pub(super) fn install() -> Result<Self> {
        let install =
            |kind| signal(kind).map_err(|error| Error::internal("cannot listen for signals").caused_by(error));
        Ok(Self {
            terminate: install(SignalKind::terminate())?,
            interrupt: install(SignalKind::interrupt())?,
            hang_up: install(SignalKind::hangup())?,
            stops: 0,
        })
    }

    /// Returns whether one has asked for the end.
    pub(super) fn heard(&self) -> bool {
        self.stops > 0
    }

    /// Waits for the first signal that asks for the end.
    ///
    /// Cancel safe.
    async fn asked_to_stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

impl Stops for Signals {
    async fn listen(&mut self, core: &Core) {
        loop {
            let interrupt = tokio::select! {
                _ = self.hang_up.recv() => {
                    core.reload.notify_one();
                    continue;
                }
                _ = self.terminate.recv() => false,
                _ = self.interrupt.recv() => true,
            };
            self.stops += 1;
            let signal = if interrupt { "SIGINT" } else { "SIGTERM" };
            match haste(self.stops, interrupt && core.identity.environment == "dev") {
                Haste::Now => {
                    tracing::warn!(signal, "third signal: exiting at once");
                    core.telemetry.logs.flush(Duration::from_millis(100));
                    exit_now(interrupt);
                }
                wanted if core.serving.load(Ordering::Acquire) => {
                    tracing::info!(signal, skip_delay = wanted == Haste::SkipDelay, "stopping");
                    core.stop(wanted == Haste::SkipDelay);
                }
                _ => {
                    tracing::info!(signal, "stopping before the service served");
                    return;
                }
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the third signal asks for just that")]
fn exit_now(interrupt: bool) -> ! {
    // 128 + the signal's number, as shells report a death by signal.
    std::process::exit(if interrupt { 130 } else { 143 })
}
