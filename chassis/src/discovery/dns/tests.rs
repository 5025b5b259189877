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
