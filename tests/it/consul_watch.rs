//! Following the instances of a service in a real Consul.

use std::{collections::VecDeque, time::Duration};

use chassis::{
    consul::{Consul, ConsulConfig, ConsulQuery, ConsulResolver},
    discovery::{Endpoint, EndpointHealth, Freshness, Resolution, Resolver, Updates},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use crate::support::{
    consul::{Agent, PATIENCE},
    pace::Pace,
};

/// Follows with the client of this agent.
pub fn resolver(agent: &Agent, service: &str) -> ConsulResolver {
    let query = ConsulQuery { service: service.to_owned(), ..ConsulQuery::default() };
    ConsulResolver::new(agent.client(), &query)
}

/// A resolver that runs, and what it told.
pub struct Watch {
    told: watch::Receiver<Resolution>,
    shortest: usize,
    _task: JoinSet<()>,
}

impl Watch {
    pub fn new(resolver: &dyn Resolver) -> Self {
        let (updates, told) = Updates::channel();
        let mut task = JoinSet::new();
        task.spawn(resolver.follow(updates));
        Self { told, shortest: usize::MAX, _task: task }
    }

    /// Waits for what should be told.
    pub async fn until(&mut self, is: impl Fn(&Resolution) -> bool) -> Resolution {
        let found = timeout(PATIENCE, async {
            loop {
                let now = self.told.borrow_and_update().clone();
                if !matches!(now.freshness, Freshness::Pending) {
                    self.shortest = self.shortest.min(now.endpoints.len());
                }
                if is(&now) {
                    return now;
                }
                self.told.changed().await.expect("it follows");
            }
        });
        found.await.unwrap_or_else(|_| panic!("not told: {:?}", *self.told.borrow()))
    }

    /// The shortest list that was seen.
    pub const fn shortest(&self) -> usize {
        self.shortest
    }
}

fn ids(now: &Resolution) -> Vec<&str> {
    now.endpoints.iter().map(id).collect()
}

/// The id that it was registered with, without its node.
fn id(endpoint: &Endpoint) -> &str {
    endpoint.id.split_once('@').expect("an id names its node").0
}

fn lost(now: &Resolution) -> bool {
    matches!(now.freshness, Freshness::Lost { .. })
}

async fn register(agent: &Agent, id: &str, more: Value) {
    let mut service = json!({
        "ID": id, "Name": "inventory", "Port": 80, "Tags": ["v2"], "Meta": { "zone": "eu-1" },
        "Weights": { "Passing": 8, "Warning": 2 },
        "Check": { "CheckID": format!("check-{id}"), "TTL": "10m", "Status": "passing" },
    });
    service.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    agent.put("/v1/agent/service/register", &service.to_string()).await;
}

fn named<'a>(now: &'a Resolution, id: &str) -> Option<&'a Endpoint> {
    now.endpoints.iter().find(|endpoint| self::id(endpoint) == id)
}

/// An agent that gives these answers, header lines and body, one after the other; then it holds the query.
async fn scripted(answers: &[(&str, Value)]) -> (Consul, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let mut answers: VecDeque<_> = answers
        .iter()
        .map(|(headers, body)| {
            let body = body.to_string();
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n\r\n{body}", body.len())
        })
        .collect();
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut held = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            match answers.pop_front() {
                Some(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
                None => held.push(stream),
            }
        }
    });
    (Consul::new(&ConsulConfig { address, ..ConsulConfig::default() }).unwrap(), task)
}

/// What Consul says of an instance, as far as it is read.
fn instance(id: &str, port: i64) -> Value {
    json!({ "Node": { "Node": "n1", "Address": "10.0.0.1" }, "Service": { "ID": id, "Port": port }, "Checks": [] })
}

#[tokio::test]
async fn instances_are_told_with_what_consul_knows_of_them_and_each_change_at_once() {
    let (pace, agent) = (Pace::measure(), Agent::start().await);
    let resolver = resolver(&agent, "inventory");
    let mut watch = Watch::new(&resolver);
    watch.until(|now| matches!(now.freshness, Freshness::Fresh) && now.endpoints.is_empty()).await;

    register(&agent, "a", json!({ "Address": "10.0.0.1" })).await;
    register(&agent, "b", json!({})).await;
    let now = watch.until(|now| now.endpoints.len() == 2).await;
    let (a, b) = (named(&now, "a").unwrap(), named(&now, "b").unwrap());
    assert_eq!((a.authority().as_str(), a.weight, a.zone.as_deref()), ("10.0.0.1:80", 8, Some("eu-1")));
    assert_eq!(a.health, EndpointHealth::Passing);
    assert_eq!(format!("{}:8500", b.host), agent.address(), "no address of its own: its node's");

    for (call, health, weight) in [
        ("/v1/agent/check/warn/check-a", EndpointHealth::Warning, 2),
        ("/v1/agent/check/fail/check-a", EndpointHealth::Critical, 8),
        ("/v1/agent/check/pass/check-a", EndpointHealth::Passing, 8),
        ("/v1/agent/service/maintenance/a?enable=true", EndpointHealth::Critical, 8),
        ("/v1/agent/service/maintenance/a?enable=false", EndpointHealth::Passing, 8),
    ] {
        agent.put(call, "").await;
        let is = |now: &Resolution| named(now, "a").is_some_and(|a| (a.health, a.weight) == (health, weight));
        // A query that is not answered by the change ends only after 55 s.
        pace.within(call, Duration::from_secs(1), watch.until(is)).await;
    }
    agent.put("/v1/agent/service/deregister/b", "").await;
    watch.until(|now| ids(now) == ["a"]).await;

    let tagged = |tags: &[&str]| ConsulQuery {
        service: "inventory".to_owned(),
        tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
        ..ConsulQuery::default()
    };
    register(&agent, "c", json!({ "Tags": ["v2", "blue & green"] })).await;
    let resolver = ConsulResolver::new(agent.client(), &tagged(&["v2", "blue & green"]));
    Watch::new(&resolver).until(|now| ids(now) == ["c"]).await;
}

#[tokio::test]
async fn the_last_known_list_stays_while_consul_is_away_and_until_a_forgetful_one_has_heard_again() {
    let (pace, mut agent) = (Pace::measure(), Agent::start().await);
    for id in ["a", "b", "c"] {
        register(&agent, id, json!({})).await;
    }
    let resolver = resolver(&agent, "inventory");
    let mut watch = Watch::new(&resolver);
    watch.until(|now| now.endpoints.len() == 3).await;

    agent.kill().await;
    let now = watch.until(lost).await;
    assert_eq!(ids(&now), ["a", "b", "c"], "an error is no empty list");
    agent.begin().await;
    watch.until(|now| !lost(now) && now.endpoints.len() == 3).await;

    // Back empty: what its index is then does not matter.
    register(&agent, "d", json!({})).await;
    watch.until(|now| now.endpoints.len() == 4).await;
    agent.kill().await;
    watch.until(lost).await;
    agent.forget();
    agent.begin().await;
    watch.until(|now| !lost(now)).await;
    register(&agent, "e", json!({})).await;
    // A query that waits with the index of the former agent ends only after 55 s.
    let registered = watch.until(|now| named(now, "e").is_some());
    let now = pace.within("no stale hole", Duration::from_secs(12), registered).await;
    assert_eq!(ids(&now), ["a", "b", "c", "d", "e"], "who has not registered again yet is not known to be gone");
    agent.put("/v1/agent/service/deregister/e", "").await;
    watch.until(|now| now.endpoints.len() == 4).await;
    assert_eq!(watch.shortest(), 3, "never shorter than what was known");
}

#[tokio::test]
async fn what_access_control_leaves_out_is_not_taken_for_gone() {
    let filtered = "x-consul-index: 8\r\nx-consul-results-filtered-by-acls: true";
    let (consul, _answering) = scripted(&[
        ("x-consul-index: 7", json!([instance("a", 80), instance("b", 80)])),
        (filtered, json!([])),
        (filtered, json!([instance("a", 80)])),
        ("x-consul-index: 8", json!([instance("a", 80)])),
    ])
    .await;
    let query = ConsulQuery { service: "inventory".to_owned(), ..ConsulQuery::default() };
    let mut watch = Watch::new(&ConsulResolver::new(consul, &query));
    watch.until(|now| now.endpoints.len() == 2).await;
    let now = watch.until(lost).await;
    assert_eq!(ids(&now), ["a", "b"]);
    let Freshness::Lost { reason, .. } = &now.freshness else { unreachable!() };
    assert!(reason.contains("service:read"), "it says what to do: {reason}");
    let now = watch.until(|now| !lost(now)).await;
    assert_eq!(ids(&now), ["a", "b"], "it was away: what is not named is kept for a while");
    assert_eq!(watch.shortest(), 2);
}

#[tokio::test]
async fn one_odd_instance_does_not_freeze_the_list_of_the_others() {
    let (consul, _answering) = scripted(&[
        ("x-consul-index: 7", json!([instance("a", 80)])),
        ("x-consul-index: 8", json!([instance("a", 80), instance("odd", 70_000), instance("odder", -1)])),
        ("x-consul-index: 9", json!([instance("a", 80), instance("odd", 0), instance("b", 80)])),
    ])
    .await;
    let query = ConsulQuery { service: "inventory".to_owned(), ..ConsulQuery::default() };
    let mut watch = Watch::new(&ConsulResolver::new(consul, &query));
    let now = watch.until(|now| now.endpoints.len() == 2).await;
    assert_eq!((ids(&now), lost(&now)), (vec!["a", "b"], false));
}

#[tokio::test]
async fn a_change_is_seen_when_something_between_takes_the_index_out() {
    let (consul, _answering) =
        scripted(&[("x-other: 1", json!([instance("a", 80)])), ("x-other: 1", json!([instance("b", 80)]))]).await;
    let query = ConsulQuery { service: "inventory".to_owned(), ..ConsulQuery::default() };
    Watch::new(&ConsulResolver::new(consul, &query)).until(|now| ids(now) == ["b"]).await;
}
