//! Runs the scheduled checks: one task each, all owned by one future.

use std::{sync::Arc, time::Duration};

use tokio::{
    select,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Criticality, Registry, caught,
    check::DynCheck,
    event_loop::{Lag, TICK, complaint},
    responses::Responses,
    state::{Outcome, Plan},
};

/// How far an interval is stretched or shrunk, so that many instances do not ask in step. Chosen: 10 %.
const JITTER: f64 = 0.1;

/// After how many ticks results are looked at for their age. Chosen: once a second.
const TICKS_PER_LOOK: u32 = 10;

/// One check to be run again and again.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) name: Arc<str>,
    pub(crate) plan: Plan,
    pub(crate) check: Arc<dyn DynCheck>,
}

/// Runs every check until stopped. Dropping the future ends them all: the set owns their tasks.
pub(crate) async fn run(registry: Registry, stop: CancellationToken) {
    let mut checks = JoinSet::new();
    let mut ticks: u32 = 0;
    let mut lag = Lag::new(Instant::now().into_std());
    let event_loop = registry.own_reporter("event_loop", Criticality::NotCritical);
    event_loop.up();
    let responses = registry.own_reporter("responses", Criticality::NotCritical);
    responses.up();
    let mut answers = Responses::default();
    loop {
        for job in registry.take_pending() {
            checks.spawn(repeat(registry.clone(), job));
        }
        while checks.try_join_next().is_some() {}
        let due = Instant::now() + TICK;
        select! {
            biased;
            () = stop.cancelled() => return,
            () = registry.added() => continue,
            () = sleep_until(due) => {}
        }
        let now = Instant::now();
        let late = now.saturating_duration_since(due);
        let worst = lag.record(late, now.into_std());
        registry.set_event_loop_lag(worst);
        ticks = ticks.wrapping_add(1);
        if ticks.is_multiple_of(TICKS_PER_LOOK) {
            registry.look_for_panics();
            if let Some(total) = registry.answers() {
                match answers.record(total, registry.config().failing_share, now.into_std()) {
                    Some(message) => responses.degraded(message),
                    None => responses.up(),
                }
            }
            // A loop this late was frozen with all its checks (SIGSTOP, a paused machine): they run first, then ages count.
            if late < TICK * TICKS_PER_LOOK {
                registry.settle();
            }
            match complaint(worst, registry.config().event_loop_lag.get()) {
                Some(message) => event_loop.degraded(message),
                None => event_loop.up(),
            }
        }
    }
}

/// Runs one check again and again.
async fn repeat(registry: Registry, job: Job) {
    loop {
        let started = Instant::now();
        let outcome = run_once(&job).await;
        let took = started.elapsed();
        registry.record(&job, in_time(outcome, took, &job.plan), took);
        sleep(jittered(job.plan.interval, fastrand::f64())).await;
    }
}

async fn run_once(job: &Job) -> Outcome {
    match timeout(job.plan.timeout, caught(|| job.check.run())).await {
        Ok(Ok(Ok(()))) => Outcome::Pass,
        Ok(Ok(Err(error))) => error.into_outcome(),
        Ok(Err(panic)) => Outcome::Fail(format!("the check panicked: {panic}")),
        Err(_) => Outcome::Fail(format!("no answer within {} ms", job.plan.timeout.as_millis())),
    }
}

/// A check that blocks its thread outlives its timeout and may then still succeed; it was too slow all the same.
fn in_time(outcome: Outcome, took: Duration, plan: &Plan) -> Outcome {
    match outcome {
        Outcome::Fail(_) => outcome,
        _ if took <= plan.timeout => outcome,
        _ => {
            let (took, limit) = (took.as_millis(), plan.timeout.as_millis());
            Outcome::Fail(format!("answered after {took} ms, limit {limit} ms; does the check block its thread?"))
        }
    }
}

/// `interval × (0.9 … 1.1)`; `random` is from 0 to 1.
fn jittered(interval: Duration, random: f64) -> Duration {
    interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * random)
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    };

    use super::{
        super::{CheckError, CheckOptions, Status},
        *,
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn status(registry: &Registry, check: &str) -> Status {
        registry.report().checks[check].status
    }

    async fn running(registry: &Registry) -> tokio::task::JoinHandle<()> {
        let task = tokio::spawn(registry.run(CancellationToken::new()));
        registry.first_run().await;
        task
    }

    #[test]
    fn jitter_stays_within_a_tenth() {
        let [low, middle, high] = [0.0, 0.5, 1.0].map(|random| jittered(10 * SECOND, random));
        assert_eq!([low, middle, high], [9 * SECOND, 10 * SECOND, 11 * SECOND]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_fails_and_delays_no_other() {
        let registry = Registry::default();
        let runs = Arc::new(AtomicU32::new(0));
        let counter = runs.clone();
        registry.check("hangs", pending::<Result<(), CheckError>>);
        let often = CheckOptions::default().interval(Duration::from_millis(100));
        registry.check_with("quick", often, move || {
            counter.fetch_add(1, SeqCst);
            async { Ok::<_, CheckError>(()) }
        });
        let start = Instant::now();
        let _task = running(&registry).await;
        assert_eq!(start.elapsed(), SECOND, "the first run takes as long as the slowest timeout");
        assert!(runs.load(SeqCst) >= 9, "{runs:?}");
        assert_eq!((status(&registry, "hangs"), status(&registry, "quick")), (Status::Down, Status::Up));
        assert_eq!(registry.report().checks["hangs"].message.as_deref(), Some("no answer within 1000 ms"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_in_a_check_is_a_failure_and_the_check_goes_on() {
        let registry = Registry::default();
        let broken = Arc::new(AtomicBool::new(true));
        let flag = broken.clone();
        registry.check("db", move || {
            let fail = flag.load(SeqCst);
            async move {
                assert!(!fail, "no pool");
                Ok::<_, CheckError>(())
            }
        });
        let _task = running(&registry).await;
        assert_eq!(registry.report().checks["db"].message.as_deref(), Some("the check panicked: no pool"));
        broken.store(false, SeqCst);
        tokio::time::sleep(6 * SECOND).await;
        assert_eq!(status(&registry, "db"), Status::Down, "one success is not enough");
        tokio::time::sleep(6 * SECOND).await;
        assert_eq!(status(&registry, "db"), Status::Up);
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_added_later_runs_and_a_second_of_its_name_does_not() {
        let registry = Registry::default();
        let _task = running(&registry).await;
        registry.mark_started();
        registry.check("db", || async { Err::<(), _>(CheckError::down("refused")) });
        registry.first_run().await;
        assert!(registry.is_started() && !registry.is_ready());
        registry.check("db", || async { Ok::<_, CheckError>(()) });
        registry.set("db", Status::Up, "");
        tokio::time::sleep(30 * SECOND).await;
        assert_eq!(status(&registry, "db"), Status::Down);
        assert_eq!(registry.refusals().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn no_check_runs_after_the_scheduler_is_dropped_or_stopped() {
        for by_token in [true, false] {
            let registry = Registry::default();
            let runs = Arc::new(AtomicU32::new(0));
            let counter = runs.clone();
            registry.check("db", move || {
                counter.fetch_add(1, SeqCst);
                async { Ok::<_, CheckError>(()) }
            });
            let stop = CancellationToken::new();
            let task = tokio::spawn(registry.run(stop.clone()));
            registry.first_run().await;
            if by_token {
                stop.cancel();
                task.await.expect("the scheduler ends in order");
            } else {
                task.abort();
                assert!(task.await.is_err_and(|error| error.is_cancelled()));
            }
            let before = runs.load(SeqCst);
            tokio::time::sleep(60 * SECOND).await;
            assert_eq!(runs.load(SeqCst), before, "by token: {by_token}");
        }
    }

    #[test]
    fn a_late_success_of_a_check_that_blocks_its_thread_is_a_failure() {
        let plan = CheckOptions::default().timeout(SECOND).plan(&Default::default());
        assert_eq!(in_time(Outcome::Pass, SECOND, &plan), Outcome::Pass);
        for late in [Outcome::Pass, Outcome::Degraded("slow".into())] {
            let expected = "answered after 3000 ms, limit 1000 ms; does the check block its thread?";
            assert_eq!(in_time(late, 3 * SECOND, &plan), Outcome::Fail(expected.into()));
        }
        assert_eq!(in_time(Outcome::Fail("refused".into()), 3 * SECOND, &plan), Outcome::Fail("refused".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_was_frozen_stays_ready() {
        let registry = Registry::default();
        registry.check("db", || async { Ok::<_, CheckError>(()) });
        let _task = running(&registry).await;
        registry.mark_started();
        let mut seen = registry.subscribe();
        let flap = async {
            loop {
                seen.changed().await.expect("the registry lives");
                if !seen.borrow_and_update().ready {
                    return;
                }
            }
        };
        let freeze = async {
            for _ in 0..12 {
                tokio::time::advance(60 * SECOND).await;
                tokio::time::sleep(Duration::from_millis(1100)).await;
            }
        };
        select! {
            biased;
            () = flap => panic!("not ready after a freeze"),
            () = freeze => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_blocked_event_loop_is_degraded_and_clears() {
        let registry = Registry::default();
        let _task = running(&registry).await;
        registry.mark_started();
        tokio::time::sleep(5 * SECOND).await;
        assert_eq!(status(&registry, "event_loop"), Status::Up);
        tokio::time::advance(Duration::from_millis(400)).await;
        tokio::time::sleep(2 * SECOND).await;
        assert_eq!(status(&registry, "event_loop"), Status::Degraded, "{:?}", registry.report());
        assert!(registry.is_ready() && registry.event_loop_lag() >= Duration::from_millis(299));
        tokio::time::sleep(40 * SECOND).await;
        assert_eq!(status(&registry, "event_loop"), Status::Up);
    }
}
