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
    candidate.created("a".into(), start, start);
    assert_eq!(candidate.step(start), Step::Lock("a".into()));
    candidate.locked("a", 10, start, start);
    assert_eq!(candidate.leads(start), Some((10, start + seconds(12))));
    candidate
}

#[test]
fn a_leader_renews_after_a_third_and_steps_down_before_its_session_can_end() {
    let start = Instant::now();
    let mut leader = elected(start);
    assert_eq!(leader.step(start), Step::Rest(start + seconds(5)));
    assert_eq!(leader.step(start + seconds(5)), Step::Renew("a".into()));
    leader.renewed("a", start + seconds(5), start + seconds(5));
    assert_eq!(leader.leads(start + seconds(16)), Some((10, start + seconds(17))));
    // Consul does not answer any more.
    for (at, failed) in [(10, 13), (14, 16)] {
        assert_eq!(leader.step(start + seconds(at)), Step::Renew("a".into()));
        leader.failed(start + seconds(failed), 1.0);
    }
    assert_eq!(leader.step(start + seconds(16)), Step::Rest(start + seconds(17)));
    assert_eq!(leader.leads(start + seconds(17)), None, "Consul ends the session at 20 s or later");
    assert_eq!(leader.step(start + seconds(17)), Step::Discard("a".into()));
    assert_eq!(leader.step(start + seconds(17)), Step::Create);
}

/// Renewed at five seconds, and the answer comes when the lease is over: the agent was frozen, or this process was.
#[test]
fn a_lease_that_was_over_is_a_term_with_a_new_token() {
    let start = Instant::now();
    let mut leader = elected(start);
    assert_eq!(leader.step(start + seconds(5)), Step::Renew("a".into()));
    let late = start + seconds(13);
    assert_eq!(leader.leads(late), None);
    leader.renewed("a", start + seconds(5), late);
    assert_eq!(leader.leads(late), None, "it was given up");
    assert_eq!(leader.step(late), Step::Renew("a".into()));
    leader.renewed("a", late, late);
    // The lock of the same session would have the same index.
    assert_eq!(leader.step(late), Step::Release("a".into()));
    leader.failed(late, 1.0);
    assert_eq!(leader.step(late), Step::Rest(late + seconds(1)));
    assert_eq!(leader.step(late + seconds(1)), Step::Release("a".into()));
    leader.released("a");
    assert_eq!(leader.step(late + seconds(1)), Step::Lock("a".into()));
    leader.locked("a", 14, late + seconds(1), late + seconds(1));
    assert_eq!(leader.leads(late + seconds(1)).map(|(token, _)| token), Some(14));
}

#[test]
fn a_term_whose_work_was_lost_releases_its_lock() {
    let start = Instant::now();
    let mut leader = elected(start);
    leader.lapse();
    assert_eq!((leader.leads(start), leader.step(start)), (None, Step::Release("a".into())));
    leader.gone("a");
    assert_eq!(leader.step(start), Step::Create, "nothing is released with a session that is gone");
    leader.created("b".into(), start, start);
    assert_eq!(leader.step(start), Step::Rest(start + seconds(5)));
}

#[test]
fn long_sessions_are_tried_again_within_a_second() {
    let timing = Timing::of(seconds(3_600));
    assert_eq!((timing.call_limit(), timing.retry()), (seconds(5), seconds(1)));
    let start = Instant::now();
    let mut candidate = Candidate::new(timing, start);
    for (random, wait) in [(0.0, 500), (1.0, 1_000)] {
        candidate.failed(start, random);
        assert_eq!(candidate.step(start), Step::Rest(start + Duration::from_millis(wait)));
    }
}

#[test]
fn the_lock_is_lost_with_the_session_or_with_the_key() {
    fn seen(leader: &mut Candidate, holder: Option<&str>, index: u64, now: Instant) {
        assert!(leader.seen(holder, index, now, now), "it is news");
    }
    let start = Instant::now();
    for (what, lose) in [
        ("the session is gone", (|leader, _| leader.gone("a")) as fn(&mut Candidate, Instant)),
        ("somebody else holds it", |leader, now| seen(leader, Some("b"), 11, now)),
        ("nobody holds it", |leader, now| seen(leader, None, 11, now)),
        ("the store came back empty", |leader, now| seen(leader, None, 1, now)),
        ("the store was set back to another's term", |leader, now| seen(leader, Some("b"), 9, now)),
        ("the store was set back to an earlier term of its own", |leader, now| seen(leader, Some("a"), 9, now)),
        ("it was given up", |leader, _| drop(leader.resign())),
    ] {
        let mut leader = elected(start);
        lose(&mut leader, start + seconds(1));
        assert_eq!(leader.leads(start + seconds(1)), None, "{what}");
    }
}

#[test]
fn old_news_end_no_term() {
    let start = Instant::now();
    let mut leader = elected(start);
    let before = start.checked_sub(seconds(1)).expect("a clock that ran for a second");
    assert!(!leader.seen(None, 9, before, start), "asked before the election: to be asked again");
    assert!(leader.seen(Some("a"), 12, before, start));
    leader.gone("another");
    assert!(leader.leads(start).is_some());
    leader.locked("another", 99, start, start);
    leader.renewed("another", start + seconds(9), start);
    assert_eq!(leader.leads(start), Some((10, start + seconds(12))));
}

#[test]
fn who_lost_its_session_locks_nothing_while_a_leader_of_before_may_go_on() {
    let start = Instant::now();
    let mut candidate = Candidate::new(Timing::of(TTL), start);
    candidate.created("b".into(), start, start);
    candidate.seen(Some("a"), 3, start, start);
    assert_eq!(candidate.step(start + seconds(5)), Step::Renew("b".into()));
    // Consul came back empty: the key is free, and the leader has not heard of it.
    candidate.gone("b");
    candidate.seen(None, 1, start + seconds(5), start + seconds(5));
    assert_eq!(candidate.step(start + seconds(5)), Step::Create);
    candidate.created("c".into(), start + seconds(5), start + seconds(6));
    assert_eq!(candidate.step(start + seconds(6)), Step::Rest(start + seconds(10)));
    candidate.renewed("c", start + seconds(15), start + seconds(15));
    assert_eq!(candidate.step(start + seconds(20)), Step::Renew("c".into()));
    candidate.renewed("c", start + seconds(20), start + seconds(20));
    assert_eq!(candidate.step(start + seconds(20)), Step::Rest(start + seconds(21)));
    assert_eq!(candidate.step(start + seconds(21)), Step::Lock("c".into()));
}

#[test]
fn a_lock_of_a_store_that_was_set_back_is_no_election() {
    let start = Instant::now();
    let later = start + seconds(1);
    let candidate = || {
        let mut candidate = Candidate::new(Timing::of(TTL), start);
        candidate.created("b".into(), start, start);
        candidate.seen(None, 20, start, start);
        assert_eq!(candidate.step(start), Step::Lock("b".into()));
        candidate
    };
    let mut lower = candidate();
    lower.locked("b", 12, start, later);
    assert_eq!(lower.leads(later), None, "the index went back from 20 to 12");
    assert_eq!(lower.step(later), Step::Rest(start + seconds(5)));
    let mut late = candidate();
    late.seen(Some("a"), 12, later, later);
    late.locked("b", 21, start, later);
    assert_eq!(late.leads(later), None, "it was locked before the store was set back");
}

#[test]
fn a_held_lock_is_not_tried_until_it_is_free_and_a_refused_one_is_tried_again() {
    let start = Instant::now();
    let mut candidate = Candidate::new(Timing::of(TTL), start);
    candidate.created("b".into(), start, start);
    candidate.seen(Some("a"), 3, start, start);
    assert_eq!(candidate.step(start), Step::Rest(start + seconds(5)));
    candidate.seen(None, 4, start, start);
    assert_eq!(candidate.step(start), Step::Lock("b".into()));
    // The lock delay.
    candidate.failed(start, 1.0);
    assert_eq!(candidate.step(start), Step::Rest(start + seconds(1)));
    assert_eq!(candidate.step(start + seconds(1)), Step::Lock("b".into()));
    // It was taken and freed again while the refusal was on its way: the retry finds out.
    candidate.seen(Some("a"), 5, start, start);
    candidate.unseen();
    candidate.failed(start + seconds(1), 1.0);
    assert_eq!(candidate.step(start + seconds(2)), Step::Lock("b".into()));
}

/// A store that gives one key to one session at a time, and ends a session no earlier than `TTL` after it heard of it.
#[derive(Clone, Default)]
struct Store {
    index: u64,
    /// How many sessions were ever made, also in what it has forgotten.
    made: u64,
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
                self.made += 1;
                let id = format!("s{}", self.made);
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
            Step::Release(id) => {
                if self.holder.as_ref() == Some(id) {
                    self.holder = None;
                    self.index += 1;
                }
                Answer::Released
            }
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
    Released,
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
    /// It asks who holds the lock, and the store answers.
    Look(usize),
    /// That answer reaches it.
    See(usize),
    /// The store ends the oldest session whose time is up.
    Expire,
    /// A snapshot is taken.
    Save,
    /// The store goes back to the snapshot; each candidate's look is answered before and after, as held queries are.
    Restore,
    /// The store loses all it has.
    Empty,
}

/// What is the matter with one candidate.
struct Party {
    candidate: Candidate,
    call: Option<Call>,
    look: Option<(Option<String>, u64, Instant)>,
    /// It has had a session. Who is new knows nothing of what a store has lost.
    is_known: bool,
}

impl Party {
    fn look_now(&mut self, store: &Store, now: Instant) {
        self.look = None;
        self.candidate.seen(store.holder.as_deref(), store.index, now, now);
    }
}

fn event() -> impl Strategy<Value = Event> {
    let who = 0..3_usize;
    prop_oneof![
        3 => (0..7_000_u64).prop_map(Event::Pass),
        6 => who.clone().prop_map(Event::Act),
        6 => who.clone().prop_map(Event::Arrive),
        6 => who.clone().prop_map(Event::Hear),
        1 => who.clone().prop_map(Event::Lose),
        2 => who.clone().prop_map(Event::Look),
        2 => who.prop_map(Event::See),
        3 => Just(Event::Expire),
        1 => Just(Event::Save),
        1 => Just(Event::Restore),
        1 => Just(Event::Empty),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_two_lead_at_one_time_whatever_is_lost_or_late(events in prop::collection::vec(event(), 1..400)) {
        let mut now = Instant::now();
        let mut store = Store::default();
        let mut snapshot: Option<Store> = None;
        let party = |_| Party { candidate: Candidate::new(Timing::of(TTL), now), call: None, look: None, is_known: false };
        let mut parties: Vec<_> = (0..3).map(party).collect();
        // The last token; none once the store has another history.
        let mut last_token = Some(0);
        // The token of the term that lasts.
        let mut led = None;
        for event in events {
            match event {
                Event::Pass(milliseconds) => now += Duration::from_millis(milliseconds),
                Event::Act(who) => {
                    let Party { candidate, call, .. } = &mut parties[who];
                    if call.is_none() {
                        match candidate.step(now) {
                            Step::Rest(_) => {}
                            step => *call = Some(Call { step, asked: now, answer: None }),
                        }
                    }
                }
                Event::Arrive(who) => {
                    if let Some(call) = parties[who].call.as_mut().filter(|call| call.answer.is_none()) {
                        call.answer = Some(store.answer(&call.step, now));
                    }
                }
                Event::Hear(who) => {
                    let Party { candidate, call, is_known, .. } = &mut parties[who];
                    if let Some(Call { step, asked, answer: Some(answer) }) = call.take_if(|call| call.answer.is_some()) {
                        match (answer, step) {
                            (Answer::Created(id), _) => {
                                candidate.created(id, asked, now);
                                *is_known = true;
                            }
                            (Answer::Renewed, Step::Renew(id)) => candidate.renewed(&id, asked, now),
                            (Answer::Gone, Step::Renew(id)) => candidate.gone(&id),
                            (Answer::Locked(token), Step::Lock(id)) => candidate.locked(&id, token, asked, now),
                            (Answer::Released, Step::Release(id)) => candidate.released(&id),
                            _ => candidate.failed(now, 1.0),
                        }
                    }
                }
                Event::Lose(who) => {
                    let Party { candidate, call, .. } = &mut parties[who];
                    if call.take().is_some() {
                        candidate.failed(now, 1.0);
                    }
                }
                Event::Look(who) => {
                    parties[who].look.get_or_insert_with(|| (store.holder.clone(), store.index, now));
                }
                Event::See(who) => {
                    let party = &mut parties[who];
                    if let Some((holder, index, sent)) = party.look.take() {
                        party.candidate.seen(holder.as_deref(), index, sent, now);
                    }
                }
                Event::Expire => {
                    let over = store.sessions.iter().find(|(_, heard)| now >= *heard + TTL).map(|(id, _)| id.clone());
                    if let Some(id) = over {
                        store.end(&id);
                    }
                }
                Event::Save => snapshot = Some(store.clone()),
                Event::Restore => {
                    let restored = snapshot.take().filter(|snapshot| snapshot.index < store.index);
                    if let Some(mut restored) = restored.filter(|_| parties.iter().all(|party| party.is_known)) {
                        parties.iter_mut().for_each(|party| party.look_now(&store, now));
                        restored.made = store.made;
                        restored.sessions.iter_mut().for_each(|(_, heard)| *heard = now);
                        store = restored;
                        now += Duration::from_millis(1);
                        parties.iter_mut().for_each(|party| party.look_now(&store, now));
                        // Nobody leads, and the tokens of this history rise as well.
                        last_token = Some(0);
                    }
                }
                Event::Empty if parties.iter().all(|party| party.is_known) => {
                    store = Store { made: store.made, ..Store::default() };
                    (snapshot, last_token) = (None, None);
                }
                Event::Empty => {}
            }
            let leading: Vec<_> = parties.iter().filter_map(|party| party.candidate.leads(now)).collect();
            prop_assert!(leading.len() <= 1, "{leading:?}");
            let token = leading.first().map(|(token, _)| *token);
            if let (Some(token), Some(last)) = (token, last_token) {
                let same_term = led == Some(token);
                prop_assert!(token > last || (same_term && token == last), "a term with {token} after one with {last}");
                last_token = Some(token);
            }
            led = token;
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
                candidate.seen(store.holder.as_deref(), store.index, now, now);
                let step = candidate.step(now);
                let asked = now;
                now += Duration::from_millis(*delay);
                match (store.answer(&step, now), step) {
                    (Answer::Created(id), _) => candidate.created(id, asked, now),
                    (Answer::Renewed, Step::Renew(id)) => candidate.renewed(&id, asked, now),
                    (Answer::Locked(token), Step::Lock(id)) => candidate.locked(&id, token, asked, now),
                    (Answer::Released, Step::Release(id)) => candidate.released(&id),
                    _ => {}
                }
            }
        }
        prop_assert_eq!(candidates.iter().filter(|candidate| candidate.leads(now).is_some()).count(), 1);
    }
}
