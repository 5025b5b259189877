use std::{
    future::pending,
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::*;
use crate::health::Status;

const SECOND: Duration = Duration::from_secs(1);

struct Setup {
    health: Registry,
    tasks: Tasks,
}

fn setup() -> Setup {
    let health = Registry::default();
    health.mark_started();
    Setup { tasks: Tasks::new(health.clone()), health }
}

impl Setup {
    /// Status and message of `background:job`.
    fn check(&self) -> (Status, String) {
        let report = self.health.report();
        let check = &report.checks["background:job"];
        (check.status, check.message.clone().unwrap_or_default())
    }

    fn stats(&self) -> Arc<TaskStats> {
        self.tasks.stats().remove(0)
    }

    /// A task whose first runs end as the closure says, and whose later ones last.
    fn spawn_failing(&self, restart: Restart, runs: u32, end: fn() -> Result<(), String>) {
        let count = AtomicU32::new(0);
        self.tasks.spawn("job", restart, move |_| {
            let run = count.fetch_add(1, SeqCst);
            async move { if run < runs { end() } else { pending().await } }
        });
    }
}

fn panics() -> Result<(), String> {
    panic!("no such key")
}

fn fails() -> Result<(), String> {
    Err("refused".to_owned())
}

fn ends() -> Result<(), String> {
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_panic_degrades_and_a_stable_run_heals() {
    let setup = setup();
    setup.spawn_failing(Restart::OnFailure, 1, panics);
    sleep(2 * SECOND).await;
    let (status, message) = setup.check();
    assert_eq!(status, Status::Degraded);
    assert!(message.starts_with("panicked: no such key; started again after "), "{message}");
    let stats = setup.stats();
    assert_eq!((stats.panics(), stats.failures(), stats.restarts(), stats.running()), (1, 0, 1, 1));
    sleep(57 * SECOND).await;
    assert_eq!(setup.check().0, Status::Degraded, "not stable yet");
    sleep(3 * SECOND).await;
    assert_eq!(setup.check(), (Status::Up, String::new()));
    assert!(setup.health.is_ready(), "a background task is not critical unless it is said to be");
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_goes_down() {
    let setup = setup();
    setup.spawn_failing(Restart::OnFailure, 3, fails);
    sleep(8 * SECOND).await;
    let (status, message) = setup.check();
    assert_eq!(status, Status::Down);
    assert!(message.starts_with("failed: refused; ") && message.ends_with(", 3 in a row"), "{message}");
    assert_eq!((setup.stats().failures(), setup.stats().restarts()), (3, 3));
    sleep(61 * SECOND).await;
    assert_eq!(setup.check().0, Status::Up);
}

#[tokio::test(start_paused = true)]
async fn an_end_means_what_the_policy_says() {
    for (restart, end, status, message, restarts) in [
        (Restart::Never, ends as fn() -> _, Status::Up, "done", 0),
        (Restart::OnFailure, ends, Status::Up, "done", 0),
        (Restart::Always, ends, Status::Degraded, "ended early; started again after", 1),
        (Restart::Never, fails, Status::Down, "failed: refused", 0),
        (Restart::Never, panics, Status::Down, "panicked: no such key", 0),
        (Restart::Always, fails, Status::Degraded, "failed: refused; started again", 1),
    ] {
        let setup = setup();
        setup.spawn_failing(restart, 1, end);
        sleep(2 * SECOND).await;
        let (found, text) = setup.check();
        assert_eq!((found, setup.stats().restarts()), (status, restarts), "{restart:?} {message}");
        assert!(text.starts_with(message), "{text}");
        assert_eq!(setup.stats().running(), restarts, "only a restarted one runs");
    }
}

#[tokio::test(start_paused = true)]
async fn a_critical_task_that_is_down_ends_readiness() {
    let setup = setup();
    let policy = Policy { criticality: Criticality::Critical, ..Restart::Never.into() };
    setup.tasks.spawn("job", policy, |_| async { Err("refused") });
    sleep(SECOND).await;
    assert!(!setup.health.is_ready());
}

#[tokio::test(start_paused = true)]
async fn shutdown_lets_tasks_end_in_order_and_names_those_it_aborts() {
    let setup = setup();
    let ended = Arc::new(AtomicU32::new(0));
    for _ in 0..2 {
        let ended = ended.clone();
        setup.tasks.spawn("orderly", Restart::Always, move |stop| {
            let ended = ended.clone();
            async move {
                stop.cancelled().await;
                sleep(SECOND).await;
                ended.fetch_add(1, SeqCst);
                Ok::<_, String>(())
            }
        });
    }
    setup.tasks.spawn("stubborn", Restart::Never, |_| pending::<Result<(), String>>());
    setup.tasks.spawn("job", Restart::Always, |_| async { Err("refused") });
    sleep(SECOND).await;
    let start = Instant::now();
    let aborted = setup.tasks.shutdown((start + 5 * SECOND).into_std()).await;
    assert_eq!((aborted, ended.load(SeqCst)), (vec!["stubborn".to_owned()], 2));
    assert_eq!(start.elapsed(), 5 * SECOND);
    tokio::task::yield_now().await;
    assert!(setup.tasks.stats().iter().all(|stats| stats.running() == 0), "{:?}", setup.tasks);
}

#[tokio::test(start_paused = true)]
async fn shutdown_does_not_wait_out_a_back_off() {
    let setup = setup();
    let backoff = Backoff { first: 3600 * SECOND, longest: 3600 * SECOND, ..Backoff::default() };
    let policy = Policy { backoff, ..Restart::Always.into() };
    for i in 0..8 {
        setup.tasks.spawn(format!("job-{i}"), policy, |_| async { Err("refused") });
    }
    sleep(Duration::from_millis(1)).await;
    let start = Instant::now();
    assert!(setup.tasks.shutdown((start + 60 * SECOND).into_std()).await.is_empty());
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_once_the_service_stops() {
    let setup = setup();
    setup.tasks.shutdown(Instant::now().into_std()).await;
    setup.tasks.spawn("job", Restart::Always, |_| async { Err("must not run") });
    assert!(setup.tasks.stats().is_empty());
}

#[tokio::test(start_paused = true)]
async fn no_task_outlives_the_set() {
    let setup = setup();
    let token = Arc::new(());
    let held = token.clone();
    setup.tasks.spawn("job", Restart::Never, move |_| {
        let held = held.clone();
        async move {
            let _held = held;
            pending::<Result<(), String>>().await
        }
    });
    sleep(SECOND).await;
    drop(setup.tasks);
    sleep(SECOND).await;
    assert_eq!(Arc::strong_count(&token), 1);
}
