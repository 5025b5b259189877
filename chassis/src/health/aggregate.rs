//! All checks together: the pure part of the registry. Time is an argument.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    CheckReport, Criticality, Report, Schedule, Status, Summary,
    report::seconds,
    state::{CheckState, Outcome, Plan},
};

/// Whether each gRPC service takes calls.
pub(crate) type Services = BTreeMap<Arc<str>, bool>;

/// A check's change of status, to be told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) check: Arc<str>,
    pub(crate) from: Status,
    pub(crate) to: Status,
    pub(crate) message: Option<String>,
}

#[derive(Debug)]
enum Kind {
    Scheduled(Plan),
    /// Set from outside; up again by itself at the given time.
    Reported {
        clears_at: Option<Instant>,
    },
}

#[derive(Debug)]
struct Entry {
    criticality: Criticality,
    state: CheckState,
    kind: Kind,
}

/// Every check, every gRPC service, and where the instance is in its life.
#[derive(Debug, Default)]
pub(crate) struct Board {
    entries: BTreeMap<Arc<str>, Entry>,
    /// Each gRPC service with the checks it needs; `None` means it goes with the instance's readiness.
    services: BTreeMap<Arc<str>, Option<Vec<String>>>,
    changes: Vec<Change>,
    start_up_ended: bool,
    started: bool,
    draining: bool,
}

impl Board {
    /// Adds a scheduled check. `false`: the name is taken, and nothing has changed.
    pub(crate) fn schedule(
        &mut self,
        name: &Arc<str>,
        criticality: Criticality,
        initial: Status,
        plan: Plan,
        now: Instant,
    ) -> bool {
        let free = !self.entries.contains_key(name);
        if free {
            self.insert(name.clone(), criticality, CheckState::new(initial, now), Kind::Scheduled(plan));
        }
        free
    }

    /// Adds a reported check, or finds the one there is, which is critical when one of its reporters says so. `false`: a
    /// scheduled check has the name, and nothing has changed.
    pub(crate) fn expect_reports(&mut self, name: &Arc<str>, criticality: Criticality, now: Instant) -> bool {
        match self.entries.get_mut(name) {
            Some(Entry { kind: Kind::Scheduled(_), .. }) => return false,
            Some(entry) if criticality == Criticality::Critical => entry.criticality = criticality,
            Some(_) => {}
            None => {
                let state = CheckState::new(Status::Unknown, now);
                self.insert(name.clone(), criticality, state, Kind::Reported { clears_at: None });
            }
        }
        true
    }

    fn insert(&mut self, name: Arc<str>, criticality: Criticality, state: CheckState, kind: Kind) {
        self.entries.insert(name, Entry { criticality, state, kind });
    }

    /// Takes in a result of a scheduled check.
    pub(crate) fn record(&mut self, name: &Arc<str>, outcome: Outcome, took: Duration, now: Instant) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        if let Kind::Scheduled(plan) = entry.kind {
            let from = entry.state.status;
            entry.state.record(outcome, took, now, &plan);
            note(&mut self.changes, name, from, &entry.state);
        }
    }

    /// Takes in a report, which holds until the next, or until `clears_at`. `false`: a scheduled check has the name.
    pub(crate) fn report(
        &mut self,
        name: &Arc<str>,
        status: Status,
        message: Option<String>,
        clears_at: Option<Instant>,
        now: Instant,
    ) -> bool {
        if !self.expect_reports(name, Criticality::NotCritical, now) {
            return false;
        }
        if let Some(entry) = self.entries.get_mut(name) {
            let from = entry.state.status;
            entry.kind = Kind::Reported { clears_at };
            entry.state.report(status, message, now);
            note(&mut self.changes, name, from, &entry.state);
        }
        true
    }

    /// Lets time do its work: results grow too old, reports clear by themselves.
    pub(crate) fn settle(&mut self, now: Instant) {
        for (name, entry) in &mut self.entries {
            let from = entry.state.status;
            match &mut entry.kind {
                Kind::Scheduled(plan) => entry.state.expire(now, plan),
                Kind::Reported { clears_at } => {
                    if clears_at.is_some_and(|at| at <= now) {
                        *clears_at = None;
                        entry.state.report(Status::Up, None, now);
                    }
                }
            }
            note(&mut self.changes, name, from, &entry.state);
        }
    }

    /// Adds a gRPC service. One that was added before needs what either says.
    pub(crate) fn register_service(&mut self, name: Arc<str>, needs: Option<Vec<String>>) {
        let known = self.services.entry(name).or_default();
        if let Some(more) = needs {
            known.get_or_insert_default().extend(more);
        }
    }

    pub(crate) fn end_start_up(&mut self) {
        self.start_up_ended = true;
    }

    pub(crate) fn drain(&mut self) {
        self.draining = true;
    }

    /// The changes since they were last taken.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// The instance in a few words. Takes `&mut` because having started is never taken back.
    pub(crate) fn summary(&mut self) -> Summary {
        let scheduled = |entry: &&Entry| matches!(entry.kind, Kind::Scheduled(_));
        let checked = self.entries.values().filter(scheduled).all(|entry| entry.state.last_result.is_some());
        self.started |= self.start_up_ended && checked;
        let weights = self.entries.values().map(|entry| entry.criticality.weigh(entry.state.status));
        let status = weights.max().unwrap_or(Status::Up);
        let ready = self.started && !self.draining && status.is_able();
        Summary { status, checked, started: self.started, draining: self.draining, ready }
    }

    /// Whether each gRPC service takes calls.
    ///
    /// `""` is the whole server. `liveness`, `readiness` and `startup` are there for a prober that speaks only gRPC: were
    /// its liveness probe to ask for `""`, a dead dependency would restart the process.
    pub(crate) fn serving(&mut self) -> Services {
        let summary = self.summary();
        let able = |check: &String| self.entries.get(check.as_str()).is_some_and(|entry| entry.state.status.is_able());
        let takes_calls = |needs: &Option<Vec<String>>| match needs {
            None => summary.ready,
            Some(checks) => summary.started && !summary.draining && checks.iter().all(able),
        };
        let own = [("", summary.ready), ("liveness", true), ("readiness", summary.ready), ("startup", summary.started)];
        let mut serving: Services =
            self.services.iter().map(|(name, needs)| (name.clone(), takes_calls(needs))).collect();
        serving.extend(own.into_iter().map(|(name, serves)| (name.into(), serves)));
        serving
    }

    /// The whole picture.
    pub(crate) fn full_report(&mut self, now: Instant) -> Report {
        let summary = self.summary();
        let checks = self.entries.iter().map(|(name, entry)| (name.to_string(), entry.show(now))).collect();
        Report { summary, checks }
    }
}

impl Entry {
    fn show(&self, now: Instant) -> CheckReport {
        let state = &self.state;
        let ago = |then: Instant| seconds(now.saturating_duration_since(then));
        CheckReport {
            status: state.status,
            criticality: self.criticality,
            message: state.message.clone(),
            since_seconds: ago(state.since),
            age_seconds: state.last_result.map(ago),
            duration_seconds: state.took.map(seconds),
            schedule: match &self.kind {
                Kind::Scheduled(plan) => Some(Schedule::new(plan, state.failures, state.successes)),
                Kind::Reported { .. } => None,
            },
        }
    }
}

fn note(changes: &mut Vec<Change>, check: &Arc<str>, from: Status, state: &CheckState) {
    if from != state.status {
        changes.push(Change { check: check.clone(), from, to: state.status, message: state.message.clone() });
    }
}

#[cfg(test)]
mod tests {
    use super::{Criticality::*, Status::*, *};

    const PLAN: Plan = Plan {
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(1),
        failures_to_fall: 1,
        successes_to_rise: 1,
    };

    fn board(checks: &[(Criticality, Status)]) -> Board {
        let mut board = Board::default();
        let now = Instant::now();
        for (i, (criticality, status)) in checks.iter().enumerate() {
            let name: Arc<str> = format!("check-{i}").into();
            board.expect_reports(&name, *criticality, now);
            board.report(&name, *status, None, None, now);
        }
        board.end_start_up();
        board
    }

    #[test]
    fn only_a_critical_check_takes_the_instance_out_of_traffic() {
        for (checks, status, ready) in [
            (&[][..], Up, true),
            (&[(Critical, Up), (NotCritical, Up)], Up, true),
            (&[(Critical, Degraded)], Degraded, true),
            (&[(Critical, Up), (NotCritical, Down)], Degraded, true),
            (&[(Critical, Up), (NotCritical, Unknown)], Degraded, true),
            (&[(Critical, Unknown), (Critical, Up)], Unknown, false),
            (&[(Critical, Down), (Critical, Unknown), (NotCritical, Up)], Down, false),
        ] {
            let summary = board(checks).summary();
            assert_eq!((summary.status, summary.ready), (status, ready), "{checks:?}");
        }
    }

    #[test]
    fn started_needs_every_first_run_and_the_end_of_start_up_and_stays() {
        let now = Instant::now();
        let mut board = Board::default();
        let db: Arc<str> = "db".into();
        assert!(board.schedule(&db, Critical, Unknown, PLAN, now));
        assert!(!board.summary().checked);
        board.end_start_up();
        assert!(!board.summary().started, "the first run has not ended");
        board.record(&db, Outcome::Fail("refused".into()), Duration::ZERO, now);
        let summary = board.summary();
        assert!(summary.started && !summary.ready, "a failed first run is a run: {summary:?}");
        board.schedule(&"late".into(), Critical, Unknown, PLAN, now);
        assert!(board.summary().started);
    }

    #[test]
    fn draining_ends_readiness_and_every_service_but_not_liveness() {
        let mut board = board(&[(Critical, Up)]);
        board.register_service("orders.v1.Orders".into(), None);
        board.register_service("stock.v1.Stock".into(), Some(vec!["check-0".into()]));
        assert!(board.serving().values().all(|serves| *serves));
        board.drain();
        assert!(!board.summary().ready);
        let serving: Vec<_> =
            board.serving().into_iter().filter(|(_, serves)| *serves).map(|(name, _)| name.to_string()).collect();
        assert_eq!(serving, ["liveness", "startup"]);
    }

    #[test]
    fn a_service_on_named_checks_looks_at_these_only() {
        let mut board = board(&[(Critical, Down), (NotCritical, Up), (NotCritical, Down)]);
        for (service, needs) in [("a", "check-1"), ("b", "check-2"), ("c", "no-such-check")] {
            board.register_service(service.into(), Some(vec![needs.into()]));
        }
        let serving = board.serving();
        assert_eq!(["", "a", "b", "c"].map(|name| serving[name]), [false, true, false, false]);
    }

    #[test]
    fn a_report_clears_by_itself_at_its_time() {
        let start = Instant::now();
        let mut board = Board::default();
        let name: Arc<str> = "panics".into();
        board.report(&name, Degraded, Some("1 panic".into()), Some(start + Duration::from_secs(300)), start);
        board.settle(start + Duration::from_secs(299));
        assert_eq!(board.summary().status, Degraded);
        board.take_changes();
        board.settle(start + Duration::from_secs(300));
        assert_eq!(board.summary().status, Up);
        assert_eq!(board.take_changes(), [Change { check: name, from: Degraded, to: Up, message: None }]);
    }

    #[test]
    fn a_name_is_taken_once() {
        let now = Instant::now();
        let mut board = Board::default();
        let (db, queue): (Arc<str>, Arc<str>) = ("db".into(), "queue".into());
        assert!(board.schedule(&db, Critical, Unknown, PLAN, now));
        assert!(!board.schedule(&db, NotCritical, Up, PLAN, now));
        assert!(!board.expect_reports(&db, NotCritical, now) && !board.report(&db, Up, None, None, now));
        assert_eq!(board.summary().status, Unknown, "the first is as it was");
        assert!(board.expect_reports(&queue, NotCritical, now) && board.expect_reports(&queue, Critical, now));
        assert!(board.expect_reports(&queue, NotCritical, now), "several reporters may share a check");
        assert!(!board.schedule(&queue, NotCritical, Up, PLAN, now));
        board.record(&db, Outcome::Pass, Duration::ZERO, now);
        board.report(&queue, Down, None, None, now);
        assert_eq!(board.summary().status, Down, "it stays critical");
    }

    #[test]
    fn a_service_added_twice_needs_what_either_says() {
        let mut board = board(&[(NotCritical, Down), (NotCritical, Up)]);
        board.register_service("a".into(), Some(vec!["check-0".into()]));
        board.register_service("a".into(), None);
        board.register_service("b".into(), Some(vec!["check-1".into()]));
        board.register_service("b".into(), Some(vec!["check-0".into()]));
        board.register_service("readiness".into(), Some(vec!["check-0".into()]));
        let serving = board.serving();
        assert_eq!(["a", "b", "readiness"].map(|name| serving[name]), [false, false, true]);
    }

    #[test]
    fn the_report_says_why_not() {
        let now = Instant::now();
        let mut board = Board::default();
        let db: Arc<str> = "db".into();
        assert!(board.schedule(&db, Critical, Unknown, PLAN, now));
        board.end_start_up();
        let why = |board: &mut Board| board.full_report(now).why_not_ready();
        assert_eq!(why(&mut board).as_deref(), Some("starting: no result yet of db"));
        board.record(&db, Outcome::Fail("refused".into()), Duration::ZERO, now);
        assert_eq!(why(&mut board).as_deref(), Some("db is down"));
        board.record(&db, Outcome::Pass, Duration::ZERO, now);
        assert_eq!(why(&mut board), None);
        board.drain();
        assert_eq!(why(&mut board).as_deref(), Some("draining"));
    }
}
