use proptest::prelude::*;

use super::*;

const TTL: Duration = Duration::from_secs(15);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A leader since `start`, elected with token 10 by session `a`.
fn elected(start: Instant) -> Candidate {
    let mut candidate = Candidate::new(Timing::of(TTL), start);
    assert_eq!(candidate.step(start), Step::Create);
    candidate.created("a".into(), start);
    assert_eq!(candidate.step(start), Step::Lock("a".into()));
    candidate.locked("a", 10);
    assert_eq!(candidate.leads(start), Some((10, start + seconds(12))));
    candidate
}

#[test]
fn a_leader_renews_after_a_third_and_steps_down_before_its_session_can_end() {
    let start = Instant::now();
    let mut leader = elected(start);
    assert_eq!(leader.step(start), Step::Rest(start + seconds(5)));
    assert_eq!(leader.step(start + seconds(5)), Step::Renew("a".into()));
    leader.renewed("a", start + seconds(5));
    assert_eq!(leader.leads(start + seconds(16)), Some((10, start + seconds(17))));
    // Consul does not answer any more.
    for (at, failed) in [(10, 13), (14, 16)] {
        assert_eq!(leader.step(start + seconds(at)), Step::Renew("a".into()));
        leader.failed(start + seconds(failed));
    }
    assert_eq!(leader.step(start + seconds(16)), Step::Rest(start + seconds(17)));
    assert_eq!(leader.leads(start + seconds(17)), None, "Consul ends the session at 20 s or later");
    assert_eq!(leader.step(start + seconds(17)), Step::Discard("a".into()));
    assert_eq!(leader.step(start + seconds(17)), Step::Create);
}

#[test]
fn the_lock_is_lost_with_the_session_or_with_the_key() {
    let start = Instant::now();
    for (what, lose) in [
        ("the session is gone", (|leader| leader.gone("a")) as fn(&mut Candidate)),
        ("somebody else holds it", |leader| leader.seen(Some("b"), 11)),
        ("nobody holds it", |leader| leader.seen(None, 11)),
        ("it was given up", |leader| drop(leader.resign())),
    ] {
        let mut leader = elected(start);
        lose(&mut leader);
        assert_eq!(leader.leads(start), None, "{what}");
    }
}

#[test]
fn old_news_end_no_term() {
    let start = Instant::now();
    let mut leader = elected(start);
    leader.seen(None, 9);
    leader.seen(Some("a"), 12);
    leader.gone("another");
    assert!(leader.leads(start).is_some());
    leader.locked("another", 99);
    leader.renewed("another", start + seconds(9));
    assert_eq!(leader.leads(start), Some((10, start + seconds(12))));
}

#[test]
fn a_held_lock_is_not_tried_until_it_is_free_and_a_refused_one_is_tried_again() {
    let start = Instant::now();
    let mut candidate = Candidate::new(Timing::of(TTL), start);
    candidate.created("b".into(), start);
    candidate.seen(Some("a"), 3);
    assert_eq!(candidate.step(start), Step::Rest(start + seconds(5)));
    candidate.seen(None, 4);
    assert_eq!(candidate.step(start), Step::Lock("b".into()));
    // The lock delay.
    candidate.failed(start);
    assert_eq!(candidate.step(start), Step::Rest(start + seconds(1)));
    assert_eq!(candidate.step(start + seconds(1)), Step::Lock("b".into()));
    // It was taken and freed again while the refusal was on its way: the retry finds out.
    candidate.seen(Some("a"), 5);
    candidate.unseen();
    candidate.failed(start + seconds(1));
    assert_eq!(candidate.step(start + seconds(2)), Step::Lock("b".into()));
}

/// A store that gives one key to one session at a time, and ends a session no earlier than `TTL` after it heard of it.
#[derive(Default)]
struct Store {
    index: u64,
    sessions: Vec<(String, Instant)>,
    holder: Option<String>,
}

impl Store {
    fn knows(&self, id: &str) -> bool {
        self.sessions.iter().any(|(known, _)| known == id)
    }

    fn end(&mut self, id: &str) {
        self.sessions.retain(|(known, _)| known != id);
        if self.holder.as_deref() == Some(id) {
            self.holder = None;
            self.index += 1;
        }
    }

    fn answer(&mut self, step: &Step, now: Instant) -> Answer {
        match step {
            Step::Create => {
                self.index += 1;
                let id = format!("s{}", self.index);
                self.sessions.push((id.clone(), now));
                Answer::Created(id)
            }
            Step::Renew(id) => match self.sessions.iter_mut().find(|(known, _)| known == id) {
                Some(session) => {
                    session.1 = now;
                    Answer::Renewed
                }
                None => Answer::Gone,
            },
            Step::Lock(id) if self.knows(id) && self.holder.as_ref().is_none_or(|holder| holder == id) => {
                if self.holder.is_none() {
                    self.index += 1;
                    self.holder = Some(id.clone());
                }
                Answer::Locked(self.index)
            }
            Step::Lock(_) => Answer::Refused,
            Step::Discard(id) => {
                self.end(id);
                Answer::Refused
            }
            Step::Rest(_) => Answer::Refused,
        }
    }
}

#[derive(Debug, Clone)]
enum Answer {
    Created(String),
    Renewed,
    Gone,
    Locked(u64),
    Refused,
}

/// A call on its way.
struct Call {
    step: Step,
    asked: Instant,
    answer: Option<Answer>,
}

#[derive(Debug, Clone)]
enum Event {
    /// Milliseconds pass.
    Pass(u64),
    /// A candidate does what is next.
    Act(usize),
    /// Its call reaches the store.
    Arrive(usize),
    /// The answer reaches it.
    Hear(usize),
    /// The call, or its answer, is lost.
    Lose(usize),
    /// It looks at who holds the lock.
    Look(usize),
    /// The store ends the oldest session whose time is up.
    Expire,
}

fn event() -> impl Strategy<Value = Event> {
    let who = 0..3_usize;
    prop_oneof![
        3 => (0..7_000_u64).prop_map(Event::Pass),
        6 => who.clone().prop_map(Event::Act),
        6 => who.clone().prop_map(Event::Arrive),
        6 => who.clone().prop_map(Event::Hear),
        1 => who.clone().prop_map(Event::Lose),
        2 => who.prop_map(Event::Look),
        3 => Just(Event::Expire),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_two_lead_at_one_time_whatever_is_lost_or_late(events in prop::collection::vec(event(), 1..400)) {
        let start = Instant::now();
        let mut now = start;
        let mut store = Store::default();
        let mut candidates: Vec<_> = (0..3).map(|_| (Candidate::new(Timing::of(TTL), now), None::<Call>)).collect();
        let mut last_token = 0;
        for event in events {
            match event {
                Event::Pass(milliseconds) => now += Duration::from_millis(milliseconds),
                Event::Act(who) => {
                    let (candidate, call) = &mut candidates[who];
                    if call.is_none() {
                        match candidate.step(now) {
                            Step::Rest(_) => {}
                            step => *call = Some(Call { step, asked: now, answer: None }),
                        }
                    }
                }
                Event::Arrive(who) => {
                    if let Some(call) = candidates[who].1.as_mut().filter(|call| call.answer.is_none()) {
                        call.answer = Some(store.answer(&call.step, now));
                    }
                }
                Event::Hear(who) => {
                    let (candidate, call) = &mut candidates[who];
                    if let Some(Call { step, asked, answer: Some(answer) }) = call.take_if(|call| call.answer.is_some()) {
                        match (answer, step) {
                            (Answer::Created(id), _) => candidate.created(id, asked),
                            (Answer::Renewed, Step::Renew(id)) => candidate.renewed(&id, asked),
                            (Answer::Gone, Step::Renew(id)) => candidate.gone(&id),
                            (Answer::Locked(token), Step::Lock(id)) => candidate.locked(&id, token),
                            _ => candidate.failed(now),
                        }
                    }
                }
                Event::Lose(who) => {
                    let (candidate, call) = &mut candidates[who];
                    if call.take().is_some() {
                        candidate.failed(now);
                    }
                }
                Event::Look(who) => candidates[who].0.seen(store.holder.as_deref(), store.index),
                Event::Expire => {
                    let over = store.sessions.iter().find(|(_, heard)| now >= *heard + TTL).map(|(id, _)| id.clone());
                    if let Some(id) = over {
                        store.end(&id);
                    }
                }
            }
            let leading: Vec<_> = candidates.iter().filter_map(|(candidate, _)| candidate.leads(now)).collect();
            prop_assert!(leading.len() <= 1, "{leading:?}");
            if let Some((token, _)) = leading.first() {
                prop_assert!(*token >= last_token, "a fencing token went back from {last_token} to {token}");
                last_token = *token;
            }
        }
    }

    #[test]
    fn somebody_leads_soon_when_nothing_is_lost(delays in prop::collection::vec(1..200_u64, 3)) {
        let start = Instant::now();
        let mut store = Store::default();
        let mut candidates: Vec<_> = (0..3).map(|_| Candidate::new(Timing::of(TTL), start)).collect();
        let mut now = start;
        for _ in 0..20 {
            for (candidate, delay) in candidates.iter_mut().zip(&delays) {
                candidate.seen(store.holder.as_deref(), store.index);
                let step = candidate.step(now);
                let asked = now;
                now += Duration::from_millis(*delay);
                match (store.answer(&step, now), step) {
                    (Answer::Created(id), _) => candidate.created(id, asked),
                    (Answer::Renewed, Step::Renew(id)) => candidate.renewed(&id, asked),
                    (Answer::Locked(token), Step::Lock(id)) => candidate.locked(&id, token),
                    _ => {}
                }
            }
        }
        prop_assert_eq!(candidates.iter().filter(|candidate| candidate.leads(now).is_some()).count(), 1);
    }
}
