//! `dns://…` against a DNS server that shares no code with the service.

use std::time::Duration;

use chassis::discovery::{DnsResolver, Freshness, Resolution, Resolver, Updates};
use serde_json::json;
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use crate::support::{
    dns::Dns,
    pace::{PATIENCE, Pace},
    replica::{Caller, Mode, Replica},
};

/// A resolver that is driven, and what it tells.
struct Followed {
    told: watch::Receiver<Resolution>,
    driver: JoinHandle<()>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Followed {
    fn of(resolver: &DnsResolver) -> Self {
        let (updates, told) = Updates::channel();
        Self { told, driver: tokio::spawn(resolver.follow(updates)) }
    }

    fn name(server: &Dns, name: &str, port: impl Into<Option<u16>>) -> Self {
        Self::of(&DnsResolver::new(name, port.into(), Some(server.address)).unwrap().within(Duration::from_secs(2)))
    }

    /// Waits until this holds.
    async fn until(&mut self, what: &str, holds: impl Fn(&Resolution) -> bool) -> Resolution {
        let waited = timeout(PATIENCE, self.told.wait_for(|told| holds(told))).await.map(|told| told.unwrap().clone());
        waited.unwrap_or_else(|_| panic!("expected {what}, found {:?}", self.told.borrow()))
    }

    async fn list(&mut self, expected: &[&str]) {
        let holds = |told: &Resolution| fresh(told) && authorities(told) == expected;
        self.until(&format!("{expected:?}"), holds).await;
    }

    async fn lost(&mut self) -> (Vec<String>, String) {
        let told = self.until("a lost source", |told| matches!(told.freshness, Freshness::Lost { .. })).await;
        let Freshness::Lost { reason, .. } = &told.freshness else { unreachable!() };
        (authorities(&told), reason.to_string())
    }
}

fn fresh(told: &Resolution) -> bool {
    matches!(told.freshness, Freshness::Fresh)
}

fn authorities(told: &Resolution) -> Vec<String> {
    told.endpoints.iter().map(chassis::discovery::Endpoint::authority).collect()
}

const TWO: &str = "inventory.test. 1 IN A 10.0.0.2\ninventory.test. 1 IN A 10.0.0.1\ninventory.test. 1 IN AAAA ::1";

#[tokio::test]
async fn all_addresses_of_a_name_are_endpoints_and_a_change_is_seen_when_the_time_to_live_is_over() {
    let (pace, mut server) = (Pace::measure(), Dns::with(TWO).await);
    let mut followed = Followed::name(&server, "inventory.test", 8080);
    followed.list(&["10.0.0.1:8080", "10.0.0.2:8080", "[::1]:8080"]).await;
    server.zone("inventory.test. 1 IN A 10.0.0.3").await;
    // The time to live, and its tenth.
    pace.within("the change", Duration::from_millis(1100), followed.list(&["10.0.0.3:8080"])).await;
}

#[tokio::test]
async fn a_name_is_not_asked_for_before_its_time_to_live_is_over() {
    let mut server = Dns::with("inventory.test. 60 IN A 10.0.0.1\nother.test. 1 IN A 10.0.0.9").await;
    let mut followed = Followed::name(&server, "inventory.test", 8080);
    followed.list(&["10.0.0.1:8080"]).await;
    // A second name with a short time to live is the clock: it was asked for again, the first was not.
    let mut clock = Followed::name(&server, "other.test", 1);
    clock.list(&["10.0.0.9:1"]).await;
    server.zone("inventory.test. 60 IN A 10.0.0.2\nother.test. 1 IN A 10.0.0.8").await;
    clock.list(&["10.0.0.8:1"]).await;
    let asked = server.asked().await;
    assert_eq!(asked.iter().filter(|question| question.starts_with("inventory.test. A ")).count(), 1, "{asked:?}");
}

#[tokio::test]
async fn srv_records_of_the_lowest_priority_give_ports_weights_and_the_addresses_of_their_targets() {
    let zone = "_http._tcp.inventory.test. 1 IN SRV 10 30 8001 a.test.\n\
                _http._tcp.inventory.test. 1 IN SRV 10 10 8002 b.test.\n\
                _http._tcp.inventory.test. 1 IN SRV 20 10 8003 c.test.\n\
                a.test. 60 IN A 10.0.0.1\nb.test. 60 IN A 10.0.0.2\nc.test. 60 IN A 10.0.0.3\n";
    let mut server = Dns::with(zone).await;
    let mut followed = Followed::name(&server, "_http._tcp.inventory.test", None);
    followed.list(&["10.0.0.1:8001", "10.0.0.2:8002"]).await;
    let weights: Vec<u32> = followed.told.borrow().endpoints.iter().map(|endpoint| endpoint.weight).collect();
    assert_eq!(weights, [3, 1]);
    assert_eq!(followed.told.borrow().endpoints[0].metadata["srv_target"], "a.test.");
    // The first choice has no address left: the next priority counts.
    server
        .zone(
            &zone
                .lines()
                .filter(|line| !line.contains("10.0.0.1") && !line.contains("10.0.0.2"))
                .fold(String::new(), |zone, line| zone + line + "\n"),
        )
        .await;
    followed.list(&["10.0.0.3:8003"]).await;
    // "." says that there is decidedly no such service.
    server.zone("_http._tcp.inventory.test. 1 IN SRV 0 0 0 .").await;
    followed.list(&[]).await;
}

#[tokio::test]
async fn an_answer_too_large_for_a_datagram_is_read_over_tcp() {
    let zone = (1..=200).map(|host| format!("inventory.test. 60 IN A 10.0.0.{host}\n")).collect::<String>();
    let mut server = Dns::with(&zone).await;
    let mut followed = Followed::name(&server, "inventory.test", 8080);
    let told = followed.until("200 endpoints", |told| told.endpoints.len() == 200).await;
    assert!(fresh(&told));
    assert!(server.asked().await.contains(&"inventory.test. A tcp".to_owned()));
}

#[tokio::test]
async fn a_list_becomes_empty_only_when_the_server_vouches_for_it() {
    let mut server = Dns::with(TWO).await;
    let mut followed = Followed::name(&server, "inventory.test", 8080);
    followed.until("a list", fresh).await;
    server.tell(&json!({ "zone": "", "soa": false })).await;
    let (list, reason) = followed.lost().await;
    assert_eq!(list.len(), 3, "the last list stays");
    assert!(reason.contains("without an SOA record"), "{reason}");
    server.tell(&json!({ "zone": TWO })).await;
    followed.until("a list", |told| fresh(told) && told.endpoints.len() == 3).await;
    server.tell(&json!({ "refuse": ["A", "AAAA"] })).await;
    assert_eq!(followed.lost().await.0.len(), 3);
    server.tell(&json!({ "refuse": [], "zone": "", "soa": true })).await;
    followed.list(&[]).await;
    // The name is there again, with other records only.
    server.zone("inventory.test. 1 IN TXT \"moved\"").await;
    followed.list(&[]).await;
    server.zone(TWO).await;
    followed.until("a list", |told| fresh(told) && told.endpoints.len() == 3).await;
}

#[tokio::test]
async fn a_frozen_server_is_told_within_the_time_and_found_again_when_it_goes_on() {
    let (pace, mut server) = (Pace::measure(), Dns::with(TWO).await);
    let mut followed = Followed::name(&server, "inventory.test", 8080);
    followed.until("a list", fresh).await;
    server.freeze();
    // The time to live, its tenth, and the two seconds of the round.
    let (list, reason) = pace.within("the loss", Duration::from_millis(3100), followed.lost()).await;
    assert_eq!(list.len(), 3, "the last list stays");
    assert!(reason.starts_with("DNS, inventory.test: "), "{reason}");
    server.thaw();
    followed.until("a list", fresh).await;
    server.zone("inventory.test. 1 IN A 10.0.0.7").await;
    followed.list(&["10.0.0.7:8080"]).await;
}

#[tokio::test]
async fn a_server_that_never_answers_for_one_family_holds_nothing_up_and_takes_nothing_away() {
    let mut server = Dns::with(TWO).await;
    server.tell(&json!({ "drop": ["AAAA"] })).await;
    let mut followed = Followed::name(&server, "inventory.test", 8080);
    followed.list(&["10.0.0.1:8080", "10.0.0.2:8080"]).await;
    server.tell(&json!({ "drop": [] })).await;
    followed.list(&["10.0.0.1:8080", "10.0.0.2:8080", "[::1]:8080"]).await;
    server.tell(&json!({ "drop": ["A"], "zone": "inventory.test. 1 IN AAAA ::2" })).await;
    followed.list(&["10.0.0.1:8080", "10.0.0.2:8080", "[::2]:8080"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_moved_is_found_before_its_time_to_live_is_over() {
    let mut old = Replica::start_at(([127, 0, 0, 2], 0).into(), Mode::Healthy).await;
    let port = old.address().port();
    let _stays = Replica::start_at(([127, 0, 0, 4], port).into(), Mode::Healthy).await;
    let new = Replica::start_at(([127, 0, 0, 3], port).into(), Mode::Healthy).await;
    let zone = |host: u8| format!("inventory.test. 300 IN A 127.0.0.{host}\ninventory.test. 300 IN A 127.0.0.4");
    let mut server = Dns::with(&zone(2)).await;
    let caller = Caller::of(&format!("dns://{}/inventory.test:{port}", server.address)).await;
    caller.calls(20, 2).await.none_failed();
    old.kill().await;
    server.zone(&zone(3)).await;
    // Not only when all refuse: one of two is there all the time, and no call fails.
    let found = timeout(PATIENCE, async {
        while new.requests() == 0 {
            caller.calls(10, 2).await.none_failed();
        }
    });
    found.await.expect("asked again long before 300 s are over");
    let asked = server.asked().await;
    let questions = asked.iter().filter(|question| question.starts_with("inventory.test. A ")).count();
    assert!((2..=4).contains(&questions), "once more and not in a hurry: {asked:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_lost_and_nothing_is_made_up() {
    let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let resolver = DnsResolver::new("inventory.test", Some(80), Some(server)).unwrap().within(Duration::from_secs(1));
    let (list, _) = Followed::of(&resolver).lost().await;
    assert!(list.is_empty());
}

#[test]
fn a_name_that_dns_cannot_hold_is_told() {
    for (name, port, expected) in [
        ("10.0.0.1", Some(80), "write static://10.0.0.1:80"),
        ("", Some(80), "expected a name"),
        ("a..b", None, "expected a name"),
    ] {
        let error = DnsResolver::new(name, port, None).unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
}
