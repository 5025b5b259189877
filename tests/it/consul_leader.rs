//! Leader election on a real Consul agent, among processes.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::{interval, timeout};

use crate::support::{
    consul::Agent,
    pace::{Pace, setting},
    process::{Folder, PATIENCE, Quickstart, Service},
};

const TTL: Duration = Duration::from_secs(4);
const LOCK_DELAY: Duration = Duration::from_secs(1);
/// Of a session whose end no test waits for. A candidate whose lock was refused tries again after a fifteenth, 40 s.
const FOR_EVER: Duration = Duration::from_secs(600);

/// An agent that allows sessions as short as a test needs them.
async fn agent() -> Agent {
    Agent::start_with(json!({ "session_ttl_min": "1s" })).await
}

async fn candidate(agent: &Agent, id: &str, ttl: Duration) -> Service {
    let fixture = Quickstart::fixture().set("app.leads", "true").set("service.name", "orders");
    let fixture = fixture.set("service.instance_id", id).set("consul.address", &agent.address());
    let fixture = fixture.set("consul.leader.ttl", &setting(ttl)).set("consul.leader.lock_delay", "1s");
    fixture.set("log.format", "json").start().await
}

/// Waits until one of them has begun to bill so many times; gives its place.
async fn billing(services: &[&Service], times: usize) -> usize {
    let mut tick = interval(Duration::from_millis(5));
    let begun = timeout(PATIENCE, async {
        loop {
            tick.tick().await;
            let begins = |service: &&&Service| service.process.logged("billing begins").len() >= times;
            if let Some(place) = services.iter().position(|service| begins(&service)) {
                return place;
            }
        }
    });
    begun.await.expect("one of them is elected")
}

fn token(service: &Service) -> u64 {
    let begun = service.process.logged("billing begins");
    begun.last().expect("it billed")["term"].as_u64().expect("a number")
}

/// When its works began and ended, as it logged them: times in UTC of one form, so their order is that of the texts. The end
/// of the last is none while it lasts, and also when the process was killed.
fn works(service: &Service) -> Vec<(String, Option<String>)> {
    let times = |message| {
        let lines = service.process.logged(message).into_iter();
        lines.map(|line| line["timestamp"].as_str().expect("a time").to_owned())
    };
    let mut ends = times("billing ends");
    times("billing begins").map(|begin| (begin, ends.next())).collect()
}

/// No work began while another's lasted.
fn never_two(services: &[&Service]) {
    let all: Vec<(usize, String, Option<String>)> = services
        .iter()
        .enumerate()
        .flat_map(|(place, service)| works(service).into_iter().map(move |(begin, end)| (place, begin, end)))
        .collect();
    for (place, begin, end) in &all {
        for (other, other_begin, _) in all.iter().filter(|(other, ..)| other != place) {
            let is_within = other_begin >= begin && end.as_ref().is_none_or(|end| other_begin < end);
            assert!(!is_within, "{other} began at {other_begin}, while {place} worked from {begin} to {end:?}");
        }
    }
}

/// Each term has a higher token than the one before.
fn rising(services: &[&Service]) {
    let begun = services.iter().flat_map(|service| service.process.logged("billing begins"));
    let mut terms: Vec<_> = begun.map(|line| (line["timestamp"].to_string(), line["term"].as_u64())).collect();
    terms.sort();
    assert!(terms.windows(2).all(|two| two[0].1 < two[1].1), "a token twice or lower: {terms:#?}");
}

async fn leader_gauge(service: &Service) -> String {
    let scrape = service.operator("/metrics").await.body;
    let line = scrape.lines().find(|line| line.starts_with("chassis_leader{"));
    line.expect("the gauge").to_owned()
}

#[tokio::test]
async fn one_of_two_leads_and_the_other_takes_over_when_it_stops() {
    let agent = agent().await;
    let (first, second) = (candidate(&agent, "one", FOR_EVER).await, candidate(&agent, "two", FOR_EVER).await);
    let (mut leader, other) = match billing(&[&first, &second], 1).await {
        0 => (first, second),
        _ => (second, first),
    };
    let key = agent.get("/v1/kv/chassis/leader/orders/billing").await;
    assert!(key[0]["Session"].is_string(), "{key}");
    assert_eq!(key[0]["ModifyIndex"], token(&leader));
    assert!(leader_gauge(&leader).await.ends_with(" 1"));
    assert!(leader_gauge(&other).await.ends_with(" 0"));
    let checks = |health: Value| health["checks"]["leader:billing"]["message"].as_str().unwrap_or_default().to_owned();
    let told = checks(leader.operator("/health").await.json());
    assert!(told.starts_with("leads, fencing token "), "{told}");
    assert!(other.process.logged("billing begins").is_empty(), "one at a time");
    let other_is_told = timeout(PATIENCE, async {
        while !checks(other.operator("/health").await.json()).starts_with("led by ") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(other_is_told.await.is_ok());

    // Stopped in order: no session has to end first.
    let token_before = token(&leader);
    leader.process.signal(Signal::TERM);
    billing(&[&other], 1).await;
    assert!(token(&other) > token_before);
    assert_eq!(leader.process.exit_code().await, 0);
    never_two(&[&leader, &other]);
    assert_eq!(leader.process.logged("billing ends").len(), 1);
}

#[tokio::test]
async fn a_killed_leader_is_followed_when_its_session_has_ended() {
    let (pace, agent) = (Pace::measure(), agent().await);
    let mut leader = candidate(&agent, "one", TTL).await;
    billing(&[&leader], 1).await;
    let session = agent.get("/v1/kv/chassis/leader/orders/billing").await[0]["Session"].clone();
    let other = candidate(&agent, "two", TTL).await;
    let began = Instant::now();
    leader.process.signal(Signal::KILL);
    // Consul ends a session after once to twice its time, and then waits for the lock's delay.
    pace.within("another leads", 2 * TTL + LOCK_DELAY, billing(&[&other], 1)).await;
    assert!(began.elapsed() > LOCK_DELAY, "{:?}", began.elapsed());
    let sessions = agent.get("/v1/session/list").await;
    let ids: Vec<_> = sessions.as_array().expect("a list").iter().map(|session| &session["ID"]).collect();
    assert!(session.is_string() && !ids.contains(&&session), "{session} goes on: {ids:?}");
    assert_eq!(leader.process.exit_code().await, 128 + 9);
}

#[tokio::test]
async fn a_leader_that_consul_does_not_answer_steps_down_before_its_session_ends() {
    let agent = agent().await;
    // Its lease is over after 4/5 of a session's time. The fifth that is left has to be longer than the machine may be late.
    let ttl = TTL.max(800 * Pace::measure().unit());
    let mut service = candidate(&agent, "one", ttl).await;
    billing(&[&service], 1).await;
    let before = token(&service);
    let began = Instant::now();
    agent.freeze();
    service.process.says("billing ends").await;
    let stepped_down = began.elapsed();
    agent.thaw();
    eprintln!("stepped down {stepped_down:?} after the agent froze");
    // A session that Consul ends is not over before the whole of its time.
    assert!(stepped_down < ttl, "{stepped_down:?} of {ttl:?}");
    assert_eq!(service.get("/readyz").await.status, 200, "it serves without leading");
    billing(&[&service], 2).await;
    rising(&[&service]);
    assert!(token(&service) > before, "the fencing token rises");
    assert_eq!(service.terminate().await, 0);
}

#[tokio::test]
async fn a_leader_that_was_stopped_for_a_while_leads_again_with_another_token() {
    let agent = agent().await;
    let mut service = candidate(&agent, "one", TTL).await;
    billing(&[&service], 1).await;
    // Past the lease, and before Consul ends the session: the same session can be renewed, and holds the lock.
    service.process.signal(Signal::STOP);
    tokio::time::sleep(TTL).await;
    service.process.signal(Signal::CONT);
    billing(&[&service], 2).await;
    rising(&[&service]);
    let key = agent.get("/v1/kv/chassis/leader/orders/billing").await;
    assert_eq!(key[0]["ModifyIndex"], token(&service), "the token is the index of the lock that is held");
    assert_eq!(service.terminate().await, 0);
}

#[tokio::test]
async fn each_of_many_short_freezes_brings_a_higher_token_or_no_new_term() {
    let agent = agent().await;
    let (mut first, mut second) = (candidate(&agent, "one", TTL).await, candidate(&agent, "two", TTL).await);
    billing(&[&first, &second], 1).await;
    for freeze in [2_800, 3_300, 3_600, 4_000] {
        agent.freeze();
        tokio::time::sleep(Duration::from_millis(freeze)).await;
        agent.thaw();
        let leads = timeout(PATIENCE, async {
            while !leader_gauge(&first).await.ends_with(" 1") && !leader_gauge(&second).await.ends_with(" 1") {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        leads.await.expect("one of them leads");
    }
    rising(&[&first, &second]);
    never_two(&[&first, &second]);
    assert_eq!((first.terminate().await, second.terminate().await), (0, 0));
}

#[tokio::test]
async fn no_two_lead_when_consul_is_set_back_to_before_the_election() {
    let agent = agent().await;
    let folder = Folder::new();
    let snapshot = folder.path().join("before").to_str().expect("UTF-8").to_owned();
    agent.cli(&["snapshot", "save", &snapshot]).await;
    let (mut first, mut second) = (candidate(&agent, "one", TTL).await, candidate(&agent, "two", TTL).await);
    billing(&[&first, &second], 1).await;
    let set_back = Instant::now();
    agent.cli(&["snapshot", "restore", &snapshot]).await;
    let again = timeout(PATIENCE, async {
        while works(&first).len() + works(&second).len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    again.await.expect("one of them is elected again");
    let led_again = set_back.elapsed();
    eprintln!("led again {led_again:?} after Consul was set back");
    // One that Consul does not know of any more may lead for so long.
    assert!(led_again > TTL, "{led_again:?}");
    never_two(&[&first, &second]);
    assert_eq!((first.terminate().await, second.terminate().await), (0, 0));
}
