//! quickstart without a macro of ours: `cargo run -p no-macros`, then `curl localhost:8080/orders/7`.
//!
//! What `#[service]`, `#[rpc]` and `#[chassis::main]` write, written by hand. `orders.rs` has the domain.

mod orders;

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::State, response::Response, routing};
use chassis::{
    Chassis,
    config::Sources,
    identity::BuildInfo,
    problem::IntoProblem,
    service::{
        AnswerInfo, AnswerKind, ArgumentInfo, Arguments, Content, Created, Fields, GrpcRoutes, IntoRoutes, Rejection,
        Reply, RouteInfo, RoutePolicy, Routes, Service, Source, TypeInfo, json, shape,
    },
};
use http::{Method, StatusCode};
use orders::{EmptyOrder, NewOrder, Order, UnknownOrder};

#[allow(missing_docs, unreachable_pub, reason = "made from quickstart's proto/orders/v1/orders.proto")]
mod proto {
    tonic::include_proto!("orders.v1");
}

struct Orders;

impl Orders {
    async fn order(&self, id: u32) -> Result<Order, UnknownOrder> {
        orders::find(id).ok_or(UnknownOrder(id))
    }

    async fn place(&self, order: NewOrder) -> Result<Created<Order>, EmptyOrder> {
        orders::place(order).map(Created::new)
    }
}

impl Service for Orders {
    fn describe() -> Vec<RouteInfo> {
        let order = TypeInfo::of::<Order>();
        vec![
            RouteInfo::new(Method::GET, "/orders/{id}", "order")
                .doc("Look one order up.")
                .argument(ArgumentInfo::new(Source::Path, "id", TypeInfo::of::<u32>()))
                .answer(AnswerInfo::new(AnswerKind::new(StatusCode::OK, Content::Json), order))
                .problems(UnknownOrder::describe()),
            RouteInfo::new(Method::POST, "/orders", "place")
                .doc("Place an order.\n\nThis example keeps none, so the answer names no place to look it up.")
                .policy(RoutePolicy::new().timeout(Duration::from_secs(2)))
                .argument(ArgumentInfo::new(Source::Body, "order", TypeInfo::of::<NewOrder>()))
                .answer(AnswerInfo::new(Created::<Order>::kind(), order))
                .problems(EmptyOrder::describe()),
        ]
    }

    fn into_router(self: Arc<Self>) -> Router {
        Router::new().route("/orders/{id}", routing::get(order)).route("/orders", routing::post(place)).with_state(self)
    }

    fn into_grpc(self: Arc<Self>) -> Option<GrpcRoutes> {
        let name = proto::orders_server::SERVICE_NAME;
        let info = RouteInfo::rpc(name, "GetOrder", "order")
            .doc("Look one order up.")
            .argument(ArgumentInfo::new(Source::Field, "id", TypeInfo::of::<u32>()))
            .problems(UnknownOrder::describe());
        let get_order = move |message: proto::GetOrderRequest| {
            let service = self.clone();
            async move {
                let mut fields = Fields::new();
                let Some(id) = fields.take("id", message.id) else { return Err(fields.into_problem()) };
                service.order(id).await.map(Into::into).map_err(IntoProblem::into_problem)
            }
        };
        Some(GrpcRoutes::new(name).unary(info, shape(<dyn proto::orders_server::Orders>::get_order), get_order))
    }
}

impl IntoRoutes for Orders {
    fn into_routes(self) -> Routes {
        Routes::of(Arc::new(self))
    }
}

async fn order(State(orders): State<Arc<Orders>>, arguments: Arguments) -> Result<Response, Rejection> {
    let id = arguments.path("id")?;
    let order = orders.order(id).await.map_err(IntoProblem::into_problem)?;
    Ok(json(StatusCode::OK, &order))
}

async fn place(State(orders): State<Arc<Orders>>, arguments: Arguments) -> Result<Response, Rejection> {
    let order = arguments.json().await?;
    let created = orders.place(order).await.map_err(IntoProblem::into_problem)?;
    Ok(created.reply())
}

impl From<Order> for proto::Order {
    fn from(order: Order) -> Self {
        let items =
            order.items.into_iter().map(|item| proto::Item { sku: item.sku, count: item.count, cents: item.cents });
        Self {
            id: order.id,
            customer: order.customer,
            items: items.collect(),
            total: order.total,
            status: order.status.as_str().to_owned(),
            created_at: order.created_at,
        }
    }
}

fn main() -> chassis::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run())
}

async fn run() -> chassis::Result<()> {
    let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    // `chassis::build_info!()` knows the commit and the time of the build, too; it is a macro.
    let build = BuildInfo { name, version, git_commit: None, built_at: "unknown" };
    let chassis: Chassis = Chassis::new(build, Sources::of_process())?;
    // A plain axum router is mounted as it is.
    let plain = Router::new().route("/plain", routing::get(|| async { "as axum has it" }));
    chassis.mount(Orders).mount(plain).run().await
}
