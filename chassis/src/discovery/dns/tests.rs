use std::net::Ipv4Addr;

use hickory_resolver::proto::{
    op::Message,
    rr::{
        Record,
        rdata::{A, SOA},
    },
};
use tokio::net::UdpSocket;
use tokio_util::task::AbortOnDropHandle;

use super::*;

/// What a server says of a name.
#[derive(Clone, Copy)]
enum Says {
    Has(Ipv4Addr),
    /// There is no such name.
    Nothing {
        soa: bool,
    },
    Refuses,
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn answer(question: &[u8], of: impl Fn(&str) -> Says) -> Vec<u8> {
    let question = Message::from_vec(question).unwrap();
    let asked = question.queries[0].clone();
    let mut answer = question.into_response();
    match (of(&asked.name().to_string()), asked.query_type()) {
        (Says::Has(address), RecordType::A) => {
            answer.add_answer(Record::from_rdata(asked.name().clone(), 60, RData::A(A(address))));
        }
        (Says::Has(_) | Says::Nothing { soa: true }, _) => {
            let soa = SOA::new(name("ns.test."), name("root.test."), 1, 60, 60, 60, 60);
            answer.add_authority(Record::from_rdata(name("test."), 60, RData::SOA(soa)));
            if !matches!(of(&asked.name().to_string()), Says::Has(_)) {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
        }
        (Says::Nothing { soa: false }, _) => answer.metadata.response_code = ResponseCode::NXDomain,
        (Says::Refuses, _) => answer.metadata.response_code = ResponseCode::Refused,
    }
    answer.to_vec().unwrap()
}

/// A server that says this, asked with two search domains.
async fn servers(of: impl Fn(&str) -> Says + Send + 'static) -> (Servers, AbortOnDropHandle<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let mut question = [0; 1500];
        loop {
            let (length, from) = socket.recv_from(&mut question).await.unwrap();
            socket.send_to(&answer(&question[..length], &of), from).await.unwrap();
        }
    });
    let servers = Servers::make(Some(address), WITHIN).unwrap();
    let servers = Servers { search: vec![name("one.test."), name("two.test.")], ..servers };
    (servers, AbortOnDropHandle::new(serving))
}

async fn ask(servers: &Servers, known: &mut Known) -> Result<Vec<IpAddr>, String> {
    known.begin();
    let until = Instant::now() + WITHIN;
    addresses_of(servers, &name("inventory"), until, known).await.map(|(addresses, _)| addresses)
}

const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

#[tokio::test]
async fn a_search_domain_without_the_name_is_passed_over_also_when_nobody_vouches_for_that() {
    let (servers, _serving) = servers(|name| match name {
        "inventory.one.test." => Says::Nothing { soa: false },
        "inventory.two.test." => Says::Has(HOST),
        _ => Says::Nothing { soa: true },
    })
    .await;
    assert_eq!(ask(&servers, &mut Known::default()).await, Ok(vec![HOST.into()]));
}

#[tokio::test]
async fn that_there_is_none_at_all_needs_somebody_to_vouch_for_every_name() {
    for (soa, expected) in [(true, Some(0)), (false, None)] {
        let (servers, _serving) = servers(move |name| match name {
            "inventory.one.test." => Says::Nothing { soa },
            _ => Says::Nothing { soa: true },
        })
        .await;
        let found = ask(&servers, &mut Known::default()).await;
        assert_eq!(found.as_ref().ok().map(Vec::len), expected, "{found:?}");
    }
}

#[tokio::test]
async fn a_search_domain_that_does_not_answer_is_not_passed_over() {
    let (servers, _serving) = servers(|name| match name {
        "inventory.one.test." => Says::Refuses,
        _ => Says::Has(HOST),
    })
    .await;
    ask(&servers, &mut Known::default()).await.expect_err("the next one may be another service's");
}

#[tokio::test]
async fn a_name_that_had_addresses_is_not_passed_over() {
    let gone = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let says = std::sync::Arc::clone(&gone);
    let (servers, _serving) = servers(move |name| match name {
        "inventory.one.test." if says.load(std::sync::atomic::Ordering::SeqCst) => Says::Nothing { soa: false },
        _ => Says::Has(HOST),
    })
    .await;
    let mut known = Known::default();
    ask(&servers, &mut known).await.unwrap();
    gone.store(true, std::sync::atomic::Ordering::SeqCst);
    ask(&servers, &mut known).await.expect_err("the last list stays");
}

/// A resolver for the system's servers, with this file in the place of the system's own names, and what it tells.
struct Followed {
    file: std::path::PathBuf,
    told: tokio::sync::watch::Receiver<crate::discovery::Resolution>,
    _follows: AbortOnDropHandle<()>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

impl Followed {
    fn of(case: &str, name: &str, port: Option<u16>, hosts: &str) -> Self {
        let file = std::env::temp_dir().join(format!("chassis-hosts-{case}-{}", std::process::id()));
        std::fs::write(&file, hosts).unwrap();
        let mut resolver = DnsResolver::new(name, port, None).unwrap();
        resolver.hosts = Some(file.as_path().into());
        let (updates, told) = Updates::channel();
        let follows = AbortOnDropHandle::new(tokio::spawn(crate::discovery::Resolver::follow(&resolver, updates)));
        Self { file, told, _follows: follows }
    }

    async fn list(&mut self, expected: &[&str]) {
        let is = |told: &crate::discovery::Resolution| {
            told.endpoints.iter().map(Endpoint::authority).collect::<Vec<_>>() == expected
        };
        let told = timeout(Duration::from_secs(60), self.told.wait_for(is)).await.map(drop);
        assert!(told.is_ok(), "expected {expected:?}, found {:?}", *self.told.borrow());
    }
}

#[tokio::test(start_paused = true)]
async fn names_in_hosts_need_no_server_and_follow_the_file() {
    // In an absolute name there is no dot to count and no domain to search; here there are both.
    let mut followed = Followed::of("follow", "Inventory", Some(80), "10.0.0.1 inventory # one\n::1 a inventory\n");
    followed.list(&["10.0.0.1:80", "[::1]:80"]).await;
    std::fs::write(&followed.file, "10.0.0.2 inventory\n").unwrap();
    followed.list(&["10.0.0.2:80"]).await;
}

#[tokio::test]
async fn names_in_hosts_come_before_a_wildcard_of_a_search_domain() {
    let (servers, _serving) = servers(|_| Says::Has(HOST)).await;
    let servers = Servers { ndots: 5, ..servers };
    let file = std::env::temp_dir().join(format!("chassis-hosts-wildcard-{}", std::process::id()));
    std::fs::write(&file, "10.7.7.7 inventory\n").unwrap();
    let mut hosts = Hosts::new(file.as_path().into());
    assert!(hosts.read().await && !hosts.read().await);
    for (name, expected) in [("inventory", "10.7.7.7:80"), ("inventory.", "10.0.0.1:80"), ("other", "10.0.0.1:80")] {
        let resolver = DnsResolver::new(name, Some(80), None).unwrap();
        let round = resolver.round(&mut Some(servers.clone()), &mut Known::default(), Some(&hosts)).await;
        let found: Vec<_> = round.unwrap().0.iter().map(Endpoint::authority).collect();
        assert_eq!(found, [expected], "{name}");
    }
    std::fs::remove_file(file).unwrap();
}

#[tokio::test(start_paused = true)]
async fn failing_connections_bring_questions_five_seconds_apart() {
    let (updates, _told) = Updates::channel();
    let refresh = updates.refresh();
    let begun = Instant::now();
    let hour = Duration::from_secs(3_600);
    // Asked for while the round was under way: kept.
    refresh.ask();
    rest(&updates, begun, hour, None).await;
    let apart = begun.elapsed();
    assert!((5.0..=5.6).contains(&apart.as_secs_f64()), "{apart:?}");
    // Asked for later than that: at once.
    let begun = Instant::now();
    let (rested, ()) = tokio::join!(
        async {
            rest(&updates, begun, hour, None).await;
            begun.elapsed()
        },
        async {
            tokio::time::sleep(Duration::from_secs(70)).await;
            (0..1_000).for_each(|_| refresh.ask());
        }
    );
    assert!((70.0..70.1).contains(&rested.as_secs_f64()), "{rested:?}");
    // The other requests are one, and without any the wait is as long as it was.
    for (least, most) in [(5.0, 5.6), (3_600.0, 3_601.0)] {
        let begun = Instant::now();
        rest(&updates, begun, hour, None).await;
        assert!((least..most).contains(&begun.elapsed().as_secs_f64()), "{:?}", begun.elapsed());
    }
}
