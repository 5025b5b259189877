//! The breaker against a model that keeps every call in a list, looks at all of it each time, and knows no threads.

use proptest::prelude::*;

use super::*;
use crate::client::DEFAULT_TIMEOUT;

#[derive(Debug, Clone)]
enum Step {
    Advance(u64),
    Admit,
    Anyway,
    /// The permit with this number, modulo how many there are, ends so.
    End(usize, Outcome, u64),
    Answered(usize),
    Cancel(usize),
    CapWait,
    Force(Option<BreakerMode>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed,
    Open,
    HalfOpen,
}

struct Call {
    permit: Permit,
    epoch: u32,
    counts: bool,
    /// The round of its probe.
    probe: Option<u32>,
    answered: bool,
}

struct Model {
    config: BreakerConfig,
    mode: BreakerMode,
    now: u64,
    phase: Phase,
    epoch: u32,
    until: u64,
    wait: u64,
    /// What of it probes are waited for.
    wait_after_cap: u64,
    /// Bucket, failed, slow.
    window: Vec<(u64, bool, bool)>,
    run: u32,
    round: u32,
    good: u32,
    out: u32,
    answered: u32,
    lent: u32,
    lost_at: u64,
    capped_at: u64,
    opened: u64,
    would_have_opened: u64,
    refused: u64,
}

impl Model {
    fn new(config: &BreakerConfig) -> Self {
        Self {
            config: config.clone(),
            mode: BreakerMode::Enforcing,
            now: 0,
            phase: Phase::Closed,
            epoch: 0,
            until: 0,
            wait: 0,
            wait_after_cap: 0,
            window: Vec::new(),
            run: 0,
            round: 0,
            good: 0,
            out: 0,
            answered: 0,
            lent: 0,
            lost_at: 0,
            capped_at: 0,
            opened: 0,
            would_have_opened: 0,
            refused: 0,
        }
    }

    fn bucket(&self) -> u64 {
        self.now / (self.config.window.get().as_millis() as u64 / 10)
    }

    fn live(&self) -> Vec<(u64, bool, bool)> {
        self.window.iter().copied().filter(|(bucket, ..)| self.bucket() - bucket < 10).collect()
    }

    fn counted(&self) -> (u64, u64, u64) {
        let live = self.live();
        let count = |what: fn(&(u64, bool, bool)) -> bool| live.iter().filter(|call| what(call)).count() as u64;
        (live.len() as u64, count(|call| call.1), count(|call| call.2))
    }

    fn slow_limit(&self) -> u64 {
        self.config.slow_call.map_or(u64::MAX, |limit| limit.get().as_millis() as u64)
    }

    fn change(&mut self, phase: Phase) {
        self.phase = phase;
        self.epoch += 1;
        (self.good, self.out, self.answered, self.lent, self.round) = (0, 0, 0, 0, 0);
    }

    fn open(&mut self) {
        let (first, max) =
            (self.config.open_wait.get().as_millis() as u64, self.config.max_open_wait.get().as_millis() as u64);
        self.wait = if self.phase == Phase::Closed { first } else { self.wait * 2 }.min(max);
        self.wait_after_cap = self.wait;
        (self.until, self.capped_at) = (self.now + self.wait, self.now + first);
        if self.mode == BreakerMode::MetricsOnly {
            self.would_have_opened += 1;
        } else {
            self.opened += 1;
        }
        self.change(Phase::Open);
    }

    fn close(&mut self) {
        self.window.clear();
        self.run = 0;
        self.change(Phase::Closed);
    }

    /// `Some(Some(round))` for a probe.
    fn probe(&mut self) -> Option<Option<u32>> {
        let mut lent = false;
        match self.phase {
            Phase::Closed => return Some(None),
            Phase::Open if self.now < self.until => return None,
            Phase::Open => self.change(Phase::HalfOpen),
            Phase::HalfOpen if self.good + self.out < self.config.probes + self.lent => {}
            Phase::HalfOpen if self.now < self.until => return None,
            Phase::HalfOpen if self.now < self.lost_at => {
                self.lent += 1;
                lent = true;
            }
            Phase::HalfOpen => {
                self.good += self.answered;
                self.round += 1;
                (self.out, self.answered, self.lent) = (0, 0, 0);
                if self.good >= self.config.probes {
                    self.close();
                    return Some(None);
                }
            }
        }
        self.out += 1;
        let slow = self.config.slow_call.map_or(0, |limit| limit.get().as_millis() as u64);
        if !lent {
            self.lost_at = self.now + self.wait_after_cap.max(slow).max(DEFAULT_TIMEOUT.as_millis() as u64);
        }
        self.until = self.lost_at;
        self.capped_at = self.now + self.config.open_wait.get().as_millis() as u64;
        Some(Some(self.round))
    }

    /// Whether a call is let through, whether it counts, and the round of its probe.
    fn admit(&mut self, anyway: bool) -> Option<(bool, Option<u32>)> {
        let admitted = match self.mode {
            BreakerMode::Disabled => return Some((false, None)),
            BreakerMode::ForcedOpen => None,
            BreakerMode::MetricsOnly => Some(self.probe().unwrap_or(None)),
            BreakerMode::Enforcing if anyway => Some(self.probe().unwrap_or(None)),
            BreakerMode::Enforcing => self.probe(),
        };
        self.refused += u64::from(admitted.is_none());
        admitted.map(|probe| (true, probe))
    }

    fn give_back(&mut self, call: &Call) -> bool {
        let current = call.probe == Some(self.round) && call.epoch == self.epoch && self.phase == Phase::HalfOpen;
        if current {
            self.out -= 1;
            self.answered -= u32::from(call.answered);
        }
        current
    }

    fn end(&mut self, call: &Call, outcome: Outcome, elapsed: u64) {
        if matches!(outcome, Outcome::Untouched | Outcome::Refused(_)) {
            self.give_back(call);
            return;
        }
        if call.epoch != self.epoch || !call.counts {
            return;
        }
        if self.mode == BreakerMode::Disabled {
            self.give_back(call);
            return;
        }
        let slow = elapsed > self.slow_limit();
        let failed = !matches!(outcome, Outcome::Success | Outcome::Throttled);
        let bad = failed || outcome == Outcome::Throttled;
        self.window.push((self.bucket(), bad, slow));
        match outcome {
            Outcome::Success => self.run = 0,
            Outcome::Throttled => {}
            _ => self.run += 1,
        }
        match self.phase {
            Phase::Closed if (bad || slow) && self.trips() => self.open(),
            Phase::HalfOpen if call.probe.is_some() && (bad || slow) => self.open(),
            Phase::HalfOpen => self.went_well(call),
            _ => {}
        }
    }

    fn went_well(&mut self, call: &Call) {
        self.good += u32::from(self.give_back(call));
        if self.good >= self.config.probes {
            self.close();
        }
    }

    fn trips(&self) -> bool {
        let (total, failed, slow) = self.counted();
        let reached = |part: u64, rate: f64| {
            rate > 0.0 && total >= u64::from(self.config.minimum_calls) && part as f64 / total as f64 >= rate
        };
        (self.config.consecutive_failures > 0 && self.run >= self.config.consecutive_failures)
            || reached(failed, self.config.failure_rate)
            || reached(slow, self.config.slow_rate)
    }

    fn state(&self) -> BreakerState {
        match (self.mode, self.phase) {
            (BreakerMode::Disabled, _) => BreakerState::Disabled,
            (BreakerMode::ForcedOpen, _) => BreakerState::ForcedOpen,
            (BreakerMode::MetricsOnly, _) => BreakerState::MetricsOnly,
            (_, Phase::Closed) => BreakerState::Closed,
            (_, Phase::Open) if self.now < self.until => BreakerState::Open,
            _ => BreakerState::HalfOpen,
        }
    }
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        6 => Just(Outcome::Success),
        4 => Just(Outcome::Failed),
        1 => Just(Outcome::TimedOut),
        2 => Just(Outcome::Throttled),
        1 => Just(Outcome::Unreachable),
        1 => Just(Outcome::Untouched),
        1 => Just(Outcome::Refused(Cause::Overloaded)),
    ]
}

fn modes() -> impl Strategy<Value = Option<BreakerMode>> {
    prop_oneof![
        4 => Just(None),
        1 => Just(Some(BreakerMode::MetricsOnly)),
        1 => Just(Some(BreakerMode::Disabled)),
        1 => Just(Some(BreakerMode::ForcedOpen)),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => Just(Step::Admit),
        1 => Just(Step::Anyway),
        12 => (any::<usize>(), outcomes(), 0..40_u64).prop_map(|(call, outcome, ms)| Step::End(call, outcome, ms)),
        1 => any::<usize>().prop_map(Step::Answered),
        1 => any::<usize>().prop_map(Step::Cancel),
        3 => (0..400_u64).prop_map(Step::Advance),
        1 => (0..20_000_u64).prop_map(Step::Advance),
        1 => Just(Step::CapWait),
        1 => modes().prop_map(Step::Force),
    ];
    prop::collection::vec(step, 1..300)
}

fn settings() -> impl Strategy<Value = BreakerConfig> {
    let slow = prop_oneof![Just(None), Just(Some(ms(20).into()))];
    let rate = || prop_oneof![Just(0.0), Just(0.3), Just(0.5), Just(1.0)];
    (1..12_u32, rate(), slow, rate(), 0..5_u32, 1..4_u32).prop_map(
        |(minimum_calls, failure_rate, slow_call, slow_rate, consecutive_failures, probes)| BreakerConfig {
            window: ms(1000).into(),
            minimum_calls,
            failure_rate,
            // Without a rate there are no slow calls; one without the other is said by the settings' own check.
            slow_call: if slow_rate > 0.0 { slow_call } else { None },
            slow_rate: if slow_call.is_some() { slow_rate } else { 0.0 },
            consecutive_failures,
            open_wait: ms(50).into(),
            max_open_wait: ms(300).into(),
            probes,
            ..quiet()
        },
    )
}

fn take(calls: &mut Vec<Call>, number: usize) -> Option<Call> {
    let count = calls.len();
    (count > 0).then(|| calls.swap_remove(number % count))
}

proptest! {
    #[test]
    fn it_does_what_the_model_does(config in settings(), steps in steps()) {
        let start = Instant::now();
        let breaker = Breaker(Arc::new(Core::new(&config, start)));
        let mut model = Model::new(&config);
        let mut calls: Vec<Call> = Vec::new();
        for step in steps {
            let now = start + ms(model.now);
            match step {
                Step::Advance(by) => model.now += by,
                Step::Admit | Step::Anyway => {
                    let anyway = matches!(step, Step::Anyway);
                    let available = breaker.is_available(now);
                    let permit = if anyway { breaker.admit_anyway(now) } else { breaker.admit(now) };
                    prop_assert!(anyway || available == permit.is_ok());
                    let expected = model.admit(anyway);
                    prop_assert_eq!(permit.is_ok(), expected.is_some());
                    if let (Ok(permit), Some((counts, probe))) = (permit, expected) {
                        calls.push(Call { permit, epoch: model.epoch, counts, probe, answered: false });
                    }
                }
                Step::End(number, outcome, elapsed) => {
                    if let Some(call) = take(&mut calls, number) {
                        model.end(&call, outcome, elapsed);
                        call.permit.record(outcome, ms(elapsed), now);
                    }
                }
                Step::Answered(number) => {
                    let count = calls.len().max(1);
                    if let Some(call) = calls.get_mut(number % count) {
                        call.permit.answered();
                        let current = call.epoch == model.epoch && call.probe == Some(model.round);
                        if current && !call.answered {
                            call.answered = true;
                            model.answered += 1;
                        }
                    }
                }
                Step::Cancel(number) => {
                    if let Some(call) = take(&mut calls, number) {
                        model.give_back(&call);
                    }
                }
                Step::CapWait => {
                    breaker.cap_wait();
                    if model.phase != Phase::Closed && model.until > model.capped_at {
                        model.until = model.capped_at;
                        model.wait_after_cap = model.wait_after_cap.min(50);
                    }
                }
                Step::Force(mode) => {
                    breaker.force(mode);
                    let mode = mode.unwrap_or_default();
                    if model.mode == BreakerMode::Disabled && mode != BreakerMode::Disabled {
                        model.run = 0;
                    }
                    model.mode = mode;
                }
            }
            let now = start + ms(model.now);
            let counts = breaker.counts(now);
            prop_assert_eq!(breaker.state(now), model.state());
            prop_assert_eq!((counts.calls, counts.failed, counts.slow), model.counted());
            prop_assert_eq!(counts.consecutive_failures, model.run);
            prop_assert_eq!((counts.opened, counts.would_have_opened), (model.opened, model.would_have_opened));
            prop_assert_eq!(counts.refused, model.refused);
        }
    }
}
