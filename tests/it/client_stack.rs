//! `chassis.client` and `chassis.channel`: the whole stack of calls out, against services on real sockets.

use std::time::Duration;

use chassis::{
    Chassis, RequestContext,
    client::{CallError, Channel, Client},
    testing::TestService,
};
use serde_json::{Value, json};
use tonic::{Code, client::Grpc};
use tonic_prost::ProstCodec;

use crate::support::{
    echo::{Echo, Word, word},
    witness::Witness,
};

/// Says who it is, and how much time it was told that it has.
struct Inventory(&'static str);

#[chassis::service]
impl Inventory {
    #[get("/who")]
    async fn who(&self) -> Value {
        let left = RequestContext::current().and_then(|context| context.remaining());
        json!({ "who": self.0, "left": left.map(|left| left.as_millis() as u64) })
    }
}

async fn inventory(name: &'static str) -> TestService {
    TestService::start(|chassis: Chassis| chassis.mount(Inventory(name)).grpc(Echo(Witness::new()))).await.unwrap()
}

fn target(services: &[&TestService]) -> String {
    let addresses: Vec<_> = services.iter().map(|service| service.http().to_string()).collect();
    format!("static://{}", addresses.join(","))
}

/// A service that calls `inventory` for each request.
struct Front {
    client: Client,
    channel: Channel,
}

async fn say(channel: Channel, text: &str, timeout: Option<Duration>) -> Result<String, tonic::Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await?;
    let mut request = tonic::Request::new(word(text));
    if let Some(timeout) = timeout {
        request.set_timeout(timeout);
    }
    let path = http::uri::PathAndQuery::from_static("/test.v1.Echo/Say");
    let codec: ProstCodec<Word, Word> = ProstCodec::default();
    Ok(grpc.unary(request, path, codec).await?.into_inner().text)
}

#[chassis::service]
impl Front {
    #[get("/http")]
    async fn http(&self) -> Result<Value, CallError> {
        self.client.call(http::Method::GET, "/who").json().await
    }

    #[get("/grpc/{text}")]
    async fn grpc(&self, text: String) -> String {
        match say(self.channel.clone(), &text, None).await {
            Ok(text) => text,
            Err(status) => format!("{:?}: {}", status.code(), status.message()),
        }
    }
}

/// The front over these settings of `clients.inventory`.
async fn front(settings: &[(&str, &str)]) -> TestService {
    let mut builder = TestService::builder();
    for (key, value) in settings {
        builder = builder.set(&format!("clients.inventory.{key}"), value);
    }
    let start = |chassis: Chassis| {
        let (client, channel) = (chassis.client("inventory").unwrap(), chassis.channel("inventory").unwrap());
        chassis.mount(Front { client, channel })
    };
    builder.start(start).await.unwrap()
}

/// What the front hears over gRPC.
async fn text(front: &TestService, say: &str) -> String {
    front.get(&format!("/grpc/{say}")).await.unwrap().json().as_str().unwrap().to_owned()
}

#[tokio::test]
async fn calls_over_both_protocols_reach_every_endpoint_of_the_list() {
    let (one, two) = (inventory("one").await, inventory("two").await);
    let front = front(&[("target", &target(&[&one, &two]))]).await;
    let mut seen = std::collections::BTreeSet::new();
    for call in 0..50 {
        let answer = front.get("/http").await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        seen.insert(answer.json()["who"].as_str().unwrap().to_owned());
        // The second call goes where none was answered yet; later ones may find one of the two the faster for long.
        if call > 0 {
            assert_eq!(text(&front, "hello").await, "hello");
        }
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["one", "two"]);
}

#[tokio::test]
async fn an_endpoint_that_is_killed_costs_no_call() {
    let (one, two) = (inventory("one").await, inventory("two").await);
    let front = front(&[("target", &target(&[&one, &two]))]).await;
    for _ in 0..10 {
        assert_eq!(front.get("/http").await.unwrap().status, 200);
    }
    one.stop().await.unwrap();
    for _ in 0..50 {
        let answer = front.get("/http").await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.json()["who"].as_str()), (200, Some("two")), "{}", answer.text());
        assert_eq!(text(&front, "hello").await, "hello");
    }
}

#[tokio::test]
async fn a_destination_without_anybody_is_told_at_once_and_by_its_cause() {
    let gone = inventory("gone").await;
    let target = target(&[&gone]);
    gone.stop().await.unwrap();
    let front = front(&[("target", &target), ("retry.attempts", "1")]).await;
    let mut codes = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let answer = front.get("/http").await.unwrap();
        assert_eq!(answer.status, 503, "{}", answer.text());
        codes.insert(answer.json()["code"].as_str().unwrap().to_owned());
        let told = text(&front, "hello").await;
        assert!(told.starts_with("Unavailable: inventory: "), "{told}");
    }
    assert_eq!(codes.into_iter().collect::<Vec<_>>(), ["circuit_open", "no_endpoints"]);
}

#[tokio::test]
async fn what_is_left_of_the_callers_time_is_told_to_the_service_called() {
    let one = inventory("one").await;
    let front = front(&[("target", &target(&[&one])), ("timeout", "7s")]).await;
    let left = front.get("/http").await.unwrap().json()["left"].as_u64().unwrap();
    assert!((6_000..=7_000).contains(&left), "{left}");
    let left: u64 = text(&front, "remaining").await.parse().unwrap();
    assert!((6_000..=7_000).contains(&left), "{left}");

    // The caller has less.
    let ask = |path: &str| {
        let uri = format!("http://{}{path}", front.http());
        let request = http::Request::get(uri).header("x-request-timeout-ms", "3000");
        front.send(request.body(String::new()).unwrap())
    };
    let left = ask("/http").await.unwrap().json()["left"].as_u64().unwrap();
    assert!((2_000..=3_000).contains(&left), "{left}");
    let left: u64 = ask("/grpc/remaining").await.unwrap().json().as_str().unwrap().parse().unwrap();
    assert!((2_000..=3_000).contains(&left), "{left}");
}

#[tokio::test]
async fn a_grpc_call_whose_time_is_up_is_deadline_exceeded() {
    let one = inventory("one").await;
    let chassis = TestService::builder().set("clients.inventory.target", target(&[&one]));
    let (send, receive) = std::sync::mpsc::sync_channel(1);
    let _service = chassis
        .start(|chassis: Chassis| {
            send.send(chassis.channel("inventory").unwrap()).unwrap();
            chassis
        })
        .await
        .unwrap();
    let status = say(receive.recv().unwrap(), "hang", Some(Duration::from_millis(50))).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
}
