//! For services whose `main`, signals or server stay their own.

use std::{
    future::{pending, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use axum::Router;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Chassis, Core,
    process::{Signals, Stops, live},
};
use crate::{
    config::Loaded,
    error::{BoxError, Result, chain},
    settings::Settings,
    shutdown::{Phase, Shutdown},
};

/// After which time a process that still runs says so. Chosen: above what the end of a `main` takes, and there is still time
/// to read it before Kubernetes kills.
const OVERDUE: Duration = Duration::from_secs(10);

/// What goes on behind the end of the service, in processes whose `main` does not end with it: there is nobody else to own it.
static AFTERWARDS: Mutex<Vec<AbortOnDropHandle<()>>> = Mutex::new(Vec::new());

/// Hears signals on, which would be swallowed otherwise, and notes that the process outlives its service. Ends with the
/// runtime.
fn keep_hearing(signals: Signals, core: Arc<Core>) {
    let afterwards = AbortOnDropHandle::new(tokio::spawn(afterwards(signals, core)));
    AFTERWARDS.lock().unwrap_or_else(PoisonError::into_inner).push(afterwards);
}

/// What [`keep_hearing`] does. Never ends by itself.
async fn afterwards<T: Stops>(mut signals: T, core: Arc<Core>) {
    let overdue = tokio::time::Instant::now() + OVERDUE;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(overdue) => break,
            // Returns at a wish to stop that nothing serves any more.
            () = signals.listen(&core) => {}
        }
    }
    tracing::warn!(
        after = ?OVERDUE,
        "the service has stopped on a signal and the process still runs: Chassis::run ends itself alone; let the rest of main \
         follow Handle::shutdown, or end with it (tokio::select!); the third signal ends the process"
    );
    loop {
        signals.listen(&core).await;
    }
}

type Serving = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

/// A signal of the service's own: its first is a SIGTERM.
struct Until<F>(Option<Pin<Box<F>>>);

impl<F: Future<Output = ()>> Stops for Until<F> {
    async fn listen(&mut self, core: &Core) {
        if let Some(signal) = &mut self.0 {
            signal.await;
            self.0 = None;
            core.stop(false);
        }
        pending::<()>().await;
    }
}

/// A server that is not the chassis's, for the main port.
pub(super) struct OwnServer {
    /// Where it listens.
    pub(super) address: SocketAddr,
    serve: Box<dyn FnOnce(Router, Shutdown) -> Serving + Send>,
}

impl OwnServer {
    /// Warns when `http.address` promises another place. One with port 0 promises none.
    pub(super) fn tell_of_other_address(&self, settings: &Loaded<Settings>) {
        let set = &settings.value().http.address;
        let from = settings.origin("http.address").filter(|origin| !origin.is_built_in());
        let Some(from) = from else { return };
        if !matches!(set.parse::<SocketAddr>(), Ok(set) if set == self.address || set.port() == 0) {
            tracing::warn!(
                address = set,
                %from,
                listens = %self.address,
                "http.address does not count beside a server of the service's own, which listens elsewhere; take one away"
            );
        }
    }

    /// Serves until it ends or the grace period is over.
    pub(super) async fn run(self, routes: Router, shutdown: Shutdown) -> Result<(), BoxError> {
        let ended = tokio::select! {
            ended = (self.serve)(routes, shutdown.clone()) => ended,
            // Dropped. Connections that it has spawned end with the runtime.
            () = shutdown.reached(Phase::Cutting) => return Ok(()),
        };
        match (&ended, shutdown.phase()) {
            // Whoever waits for it tells of it at once.
            (_, Phase::Running) => {}
            // He tells of it too, when the stop is over.
            (Err(error), _) => {
                tracing::warn!(error = chain(&**error), "the service's own server failed while it stopped");
            }
            (Ok(()), Phase::Draining) => tracing::warn!(
                "the service's own server has ended before the drain delay: callers that do not know of the stop yet are \
                 refused; let it listen until Phase::Stopping"
            ),
            (Ok(()), Phase::Stopping | Phase::Cutting) => {}
        }
        ended
    }
}

impl<S> Chassis<S>
where
    S: DeserializeOwned + JsonSchema + Send + Sync + 'static,
{
    /// The whole life of the service in a `main` of one's own: [`serve`](Chassis::serve) under the signals that
    /// `#[chassis::main]` obeys, then the flush of what is logged, counted and traced, within `shutdown.flush`.
    ///
    /// SIGTERM and SIGINT begin the stop, a second signal skips the drain delay, a third ends the process at once; SIGHUP
    /// reads the configuration again. They are heard from here on: one that comes before has its usual effect.
    ///
    /// The stop ends this future, and nothing else: a second server in the same `main` runs on, and a signal no longer ends
    /// the process by itself. Let the rest follow [`Handle::shutdown`](super::Handle::shutdown), or drop it when this future
    /// ends (`tokio::select!`). A process that still runs ten seconds later says so in the log; the third signal ends it.
    ///
    /// # Errors
    /// As [`serve`](Chassis::serve). A `main` that returns the error ends with exit code 1; the one that `#[chassis::main]`
    /// would end with is in [`Error::exit`](crate::Error::exit).
    pub async fn run(self) -> Result<()> {
        let mut signals = Signals::install()?;
        let core = self.core.clone();
        let ended = live(self, &mut signals, Self::serve).await;
        if signals.heard() {
            keep_hearing(signals, core);
        }
        ended
    }

    /// As [`run`](Chassis::run), and the stop begins when `signal` is ready, as in axum's `with_graceful_shutdown`. Signals
    /// of the process are not listened to.
    ///
    /// # Errors
    /// As [`run`](Chassis::run).
    pub async fn run_until(self, signal: impl Future<Output = ()>) -> Result<()> {
        let mut until = Until(Some(Box::pin(signal)));
        {
            // Looked at first, so that handlers which it installs are there before anybody is told that the service is.
            let mut first = pin!(until.listen(&self.core));
            poll_fn(|context| {
                let _: Poll<()> = first.as_mut().poll(context);
                Poll::Ready(())
            })
            .await;
        }
        live(self, until, Self::serve).await
    }

    /// Serves the main port with a server of one's own: a TLS acceptor, `axum::serve` on a listener that came from
    /// elsewhere, tonic's server. The chassis gives it the routes with the whole stack around them, and runs the rest: the
    /// checks, the operators' port, registration, telemetry, background tasks, and the stop.
    ///
    /// `address` is where it listens: what is told to the registry, in the log and by [`Handle::bound`](super::Handle::bound).
    /// Bind before: `serve` is called when the checks have run once, and from then on the instance says that it is ready.
    ///
    /// ```no_run
    /// use axum::Router;
    /// use chassis::{Chassis, config::Sources, shutdown::Phase};
    ///
    /// #[tokio::main]
    /// async fn main() -> chassis::Result<()> {
    ///     let chassis: Chassis = Chassis::new(chassis::build_info!(), Sources::of_process())?;
    ///     let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    ///     let address = listener.local_addr()?;
    ///     let serve = move |routes: Router, shutdown: chassis::shutdown::Shutdown| async move {
    ///         let stopping = async move { shutdown.reached(Phase::Stopping).await };
    ///         axum::serve(listener, routes).with_graceful_shutdown(stopping).await
    ///     };
    ///     chassis.mount(Router::new()).own_server(address, serve).run().await
    /// }
    /// ```
    ///
    /// # The stop
    ///
    /// The server listens until [`Phase::Stopping`], and ends when its last request has: `shutdown.grace` waits for it, and
    /// behind that it is dropped. What is lost depends on it:
    ///
    /// - It stops listening earlier, at a signal of its own for example: callers that have not heard of the stop yet are
    ///   refused, for as long as `shutdown.drain_delay` was to last. Ended before the stop, it ends the service with an error.
    /// - It fails or panics: the stop begins, or goes on, in order, and the service ends with an error, exit code 70.
    /// - It closes its listener while callers wait in the kernel's queue, or a kept-alive connection while a request is on its
    ///   way: these are reset. `axum::serve` does both, within milliseconds of [`Phase::Stopping`]. A caller that was answered
    ///   during the drain delay was told to close its connection, so with a delay that callers notice nobody is left there;
    ///   with `shutdown.drain_delay = "0s"`, the default of the dev profile, such requests are lost. The chassis's own server
    ///   serves them.
    ///
    /// # What does not count
    ///
    /// The keys under `http` about listening and connections: `address`, `max_connections`, the time-outs of connections,
    /// `http1` and `http2`; limits of that kind are the server's. An `http.address` that is set and names another place is told of
    /// at start. `request_timeout` and `body_limit` do count. The address of
    /// a caller is known, in the access line for example, where the server tells it as axum's `ConnectInfo<SocketAddr>`.
    #[must_use]
    pub fn own_server<F, R, E>(mut self, address: SocketAddr, serve: F) -> Self
    where
        F: FnOnce(Router, Shutdown) -> R + Send + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let serve = move |routes: Router, shutdown: Shutdown| -> Serving {
            let serving = serve(routes, shutdown);
            Box::pin(async move { serving.await.map_err(Into::into) })
        };
        self.own_server = Some(OwnServer { address, serve: Box::new(serve) });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Sources,
        identity::BuildInfo,
        telemetry::log::{LogConfig, tests::Captured},
    };

    /// The messages of so long behind the end of a service.
    fn said_within(time: Duration) -> Vec<String> {
        let log = Captured::new(&LogConfig::default());
        log.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
            runtime.expect("a runtime").block_on(async {
                let build = BuildInfo { name: "left", version: "0.0.0", git_commit: None, built_at: "unknown" };
                let sources = Sources { dir: "no-such-folder".into(), ..Sources::default() };
                let chassis: Chassis = Chassis::new(build, sources).expect("a chassis");
                let nothing = Until::<std::future::Pending<()>>(None);
                let _ = tokio::time::timeout(time, afterwards(nothing, chassis.core.clone())).await;
            });
        });
        log.messages()
    }

    #[test]
    fn a_process_that_outlives_its_service_says_so() {
        let said = |time| said_within(time).iter().filter(|line| line.contains("the process still runs")).count();
        assert_eq!(said(OVERDUE / 2), 0);
        assert_eq!(said(OVERDUE * 10), 1);
    }

    #[test]
    fn a_life_may_be_a_task() {
        fn task(_: impl Future<Output = Result<()>> + Send) {}
        // Compiled is enough.
        let _ = |chassis: Chassis| task(chassis.run());
        let _ = |chassis: Chassis| task(chassis.run_until(pending()));
    }
}
