//! One impl block under `#[service]`, called over HTTP and over gRPC as a client calls it.

use std::{sync::Arc, time::Duration};

use chassis::{
    Chassis,
    problem::Problem,
    service::{Accepted, Created, NoContent, RouteKind, RoutePolicy, Service, Source, service},
    testing::TestService,
};
use serde::{Deserialize, Serialize};
use tonic::{Code, Status, client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;

/// What tonic and prost generate from a `.proto` file.
mod proto {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct GetOrderRequest {
        #[prost(uint32, tag = "1")]
        pub id: u32,
        #[prost(string, optional, tag = "2")]
        pub r#type: Option<String>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct PlaceOrderRequest {
        #[prost(string, tag = "1")]
        pub customer: String,
        #[prost(string, repeated, tag = "2")]
        pub skus: Vec<String>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Order {
        #[prost(uint32, tag = "1")]
        pub id: u32,
        #[prost(string, tag = "2")]
        pub note: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Empty {}

    pub mod orders_server {
        use tonic::{Request, Response, Status};

        use super::{Empty, GetOrderRequest, Order, PlaceOrderRequest};

        pub const SERVICE_NAME: &str = "orders.v1.Orders";

        #[allow(dead_code, reason = "streams are served by hand")]
        #[tonic::async_trait]
        pub trait Orders: Send + Sync + 'static {
            async fn get_order(&self, request: Request<GetOrderRequest>) -> Result<Response<Order>, Status>;
            async fn place_order(&self, request: Request<PlaceOrderRequest>) -> Result<Response<Order>, Status>;
            async fn check_order(&self, request: Request<PlaceOrderRequest>) -> Result<Response<Order>, Status>;
            async fn r#move(&self, request: Request<Empty>) -> Result<Response<Empty>, Status>;
            type WatchStream: Send + 'static;
            async fn watch(&self, request: Request<Empty>) -> Result<Response<Self::WatchStream>, Status>;
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct OrderId(u32);

impl TryFrom<u32> for OrderId {
    type Error = &'static str;
    fn try_from(id: u32) -> Result<Self, Self::Error> {
        if id == 0 { Err("must not be 0") } else { Ok(Self(id)) }
    }
}

#[derive(Debug, Deserialize)]
struct NewOrder {
    skus: Vec<String>,
}

impl TryFrom<proto::PlaceOrderRequest> for NewOrder {
    type Error = &'static str;
    fn try_from(message: proto::PlaceOrderRequest) -> Result<Self, Self::Error> {
        if message.skus.is_empty() { Err("has no items") } else { Ok(Self { skus: message.skus }) }
    }
}

#[derive(Debug, Serialize)]
struct Order {
    id: OrderId,
    note: String,
}

impl From<Order> for proto::Order {
    fn from(Order { id, note }: Order) -> Self {
        Self { id: id.0, note }
    }
}

#[derive(Debug, thiserror::Error, Problem)]
enum OrderError {
    #[error("there is no such order")]
    #[problem(not_found)]
    OrderUnknown,
}

struct Orders;

#[service(path = "/shop", tag = "orders", grpc = proto::orders_server::Orders<WatchStream = ()>)]
impl Orders {
    /// Look one order up.
    #[get("/orders/{id}", timeout = "2s", tags = ["reads"])]
    #[rpc(GetOrder)]
    async fn order(&self, id: OrderId) -> Result<Order, OrderError> {
        if id.0 == 7 { Ok(Order { id, note: String::new() }) } else { Err(OrderError::OrderUnknown) }
    }

    #[post("/customers/{customer}/orders")]
    #[rpc]
    async fn place_order(&self, customer: String, #[message] order: NewOrder) -> Created<Order> {
        Created::new(Order { id: OrderId(8), note: format!("{customer}: {}", order.skus.join(" ")) })
    }

    #[rpc(CheckOrder, idempotent)]
    #[cfg(not(any()))]
    async fn check(&self, skus: Vec<String>, customer: String) -> Accepted<Order> {
        Accepted(Order { id: OrderId(9), note: format!("{customer}: {}", skus.join(" ")) })
    }

    #[rpc(DoesNotExist)]
    #[cfg(any())]
    async fn not_compiled(&self) {}

    #[rpc]
    async fn r#move(&self) -> NoContent {
        NoContent
    }
}

struct Client(Grpc<Channel>);

impl Client {
    async fn call<Req, Res>(&mut self, method: &str, message: Req) -> Result<Res, Status>
    where
        Req: prost::Message + 'static,
        Res: prost::Message + Default + 'static,
    {
        self.0.ready().await.unwrap();
        let path = format!("/orders.v1.Orders/{method}").parse().unwrap();
        let answer = self.0.unary(tonic::Request::new(message), path, ProstCodec::<Req, Res>::default()).await?;
        Ok(answer.into_inner())
    }
}

async fn start() -> (TestService, Client) {
    let service = TestService::start(|chassis: Chassis| chassis.mount(Orders)).await.unwrap();
    let channel = Channel::from_shared(format!("http://{}", service.http())).unwrap().connect().await.unwrap();
    (service, Client(Grpc::new(channel)))
}

fn get_order(id: u32) -> proto::GetOrderRequest {
    proto::GetOrderRequest { id, r#type: None }
}

fn place_order(customer: &str, skus: &[&str]) -> proto::PlaceOrderRequest {
    proto::PlaceOrderRequest { customer: customer.into(), skus: skus.iter().map(|&sku| sku.into()).collect() }
}

#[tokio::test]
async fn one_method_answers_over_http_and_grpc() {
    let (service, mut client) = start().await;
    let answer = service.get("/shop/orders/7").await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.text()), (200, r#"{"id":7,"note":""}"#.to_owned()));
    let order: proto::Order = client.call("GetOrder", get_order(7)).await.unwrap();
    assert_eq!(order, proto::Order { id: 7, note: String::new() });

    assert_eq!(service.get("/shop/orders/8").await.unwrap().json()["code"], "order_unknown");
    let status = client.call::<_, proto::Order>("GetOrder", get_order(8)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "there is no such order"));
}

#[tokio::test]
async fn a_field_that_does_not_fit_is_told_before_the_handler_is_called() {
    let (_service, mut client) = start().await;
    let status = client.call::<_, proto::Order>("GetOrder", get_order(0)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("id: must not be 0"), "{status:?}");
}

#[tokio::test]
async fn an_argument_can_be_the_whole_message_beside_its_fields() {
    let (service, mut client) = start().await;
    let order: proto::Order = client.call("PlaceOrder", place_order("ada", &["a", "b"])).await.unwrap();
    assert_eq!(order, proto::Order { id: 8, note: "ada: a b".into() });
    let status = client.call::<_, proto::Order>("PlaceOrder", place_order("ada", &[])).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("has no items"), "{status:?}");
    let answer = service.post("/shop/customers/ada/orders", r#"{"skus":["a"]}"#).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.text()), (201, r#"{"id":8,"note":"ada: a"}"#.to_owned()));
}

#[tokio::test]
async fn fields_go_to_arguments_by_name_whatever_their_order() {
    let (_service, mut client) = start().await;
    let order: proto::Order = client.call("CheckOrder", place_order("ada", &["a"])).await.unwrap();
    assert_eq!(order, proto::Order { id: 9, note: "ada: a".into() });
}

#[tokio::test]
async fn an_rpc_may_be_named_as_a_keyword_and_answer_nothing() {
    let (_service, mut client) = start().await;
    let _: proto::Empty = client.call("Move", proto::Empty {}).await.unwrap();
}

#[test]
fn an_rpc_is_described_with_what_holds_for_its_route() {
    let routes = Arc::new(Orders).into_grpc().unwrap();
    assert_eq!(routes.name(), "orders.v1.Orders");
    let paths: Vec<&str> = routes.infos().iter().map(|info| &*info.path).collect();
    let expected = ["GetOrder", "PlaceOrder", "CheckOrder", "Move"].map(|name| format!("/orders.v1.Orders/{name}"));
    assert_eq!(paths, expected);

    let order = &routes.infos()[0];
    assert_eq!((order.kind, order.handler, order.doc), (RouteKind::Rpc, "order", "Look one order up."));
    assert_eq!(order.tags, ["orders", "reads"]);
    assert_eq!(order.policy, RoutePolicy::new().timeout(Duration::from_secs(2)));
    assert_eq!((order.arguments[0].source, order.arguments[0].name), (Source::Field, "id"));
    assert_eq!(order.problems[0].code, "order_unknown");
    assert_eq!(routes.infos()[1].arguments[1].source, Source::Message);
    assert_eq!(routes.infos()[2].policy, RoutePolicy::new().idempotent());

    let http = Orders::describe();
    assert_eq!((&*http[0].path, &http[0].tags, http[0].policy), ("/shop/orders/{id}", &order.tags, order.policy));
    assert_eq!(http.len(), 2);
}
