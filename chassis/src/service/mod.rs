//! Domain services over HTTP and gRPC: what `#[service]` generates, and what a person writes by hand in its place.
//!
//! A service is a type whose methods answer requests. [`macro@service`] reads their signatures and implements [`Service`]
//! and [`IntoRoutes`]; everything it generates is public here:
//!
//! ```
//! use std::sync::Arc;
//!
//! use axum::{Router, extract::State, response::Response, routing};
//! use chassis::service::{Arguments, IntoRoutes, Rejection, RouteInfo, Routes, Service, json};
//!
//! struct Orders;
//!
//! impl Service for Orders {
//!     fn describe() -> Vec<RouteInfo> {
//!         vec![RouteInfo::new(http::Method::GET, "/orders/{id}", "order")]
//!     }
//!
//!     fn into_router(self: Arc<Self>) -> Router {
//!         Router::new().route("/orders/{id}", routing::get(order)).with_state(self)
//!     }
//! }
//!
//! impl IntoRoutes for Orders {
//!     fn into_routes(self) -> Routes {
//!         Routes::of(Arc::new(self))
//!     }
//! }
//!
//! async fn order(State(_orders): State<Arc<Orders>>, arguments: Arguments) -> Result<Response, Rejection> {
//!     let id: u64 = arguments.path("id")?;
//!     Ok(json(http::StatusCode::OK, &id))
//! }
//! ```

mod arguments;
pub(crate) mod descriptors;
pub(crate) mod grpc;
mod info;
pub(crate) mod message;
mod policy;
mod reply;
pub(crate) mod select;
mod stream;
pub(crate) mod validate;

use std::{convert::Infallible, sync::Arc};

use axum::{Router, extract::Request, response::IntoResponse, routing::Route};
use tower_layer::Layer;

pub use arguments::{Argument, Arguments, Rejection};
pub use grpc::{GrpcRoutes, GrpcServer, Shape, shape};
pub use info::{AnswerInfo, AnswerKind, ArgumentInfo, Content, RouteInfo, RouteKind, Source, TypeInfo};
pub use message::Fields;
pub use policy::{Deprecation, RoutePolicy};
pub use reply::{Accepted, Created, NoContent, Raw, Reply, json};
pub use stream::{Event, Events, JsonLines};
pub use validate::validate;

/// Makes a service of a type: reads the signatures in an impl block, keeps the block as it is written, and adds the wiring.
///
/// A method with a route is a handler: `#[get("/orders/{id}")]`, likewise `post`, `put`, `patch`, `delete`, `head`. It is
/// `async` and takes `&self`. Methods without a route or an rpc are left alone.
///
/// ```
/// use chassis::service::{Created, service};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Order {
///     id: u64,
/// }
///
/// struct Orders;
///
/// #[service(path = "/shop", version = "v1", tag = "orders")]
/// impl Orders {
///     /// Look one order up.
///     #[get("/orders/{id}")]
///     async fn order(&self, id: u64) -> Order {
///         Order { id }
///     }
///
///     /// Place an order.
///     #[post("/orders", timeout = "2s", concurrency = 50, body_limit = "64KiB")]
///     async fn place(&self, order: Order) -> Created<Order> {
///         Created::new(order)
///     }
/// }
/// ```
///
/// # Arguments
///
/// - An argument that the path names is taken from the path; its type implements `serde::Deserialize`.
/// - On GET, HEAD and DELETE the one further argument is the query; on the others it is the JSON body.
/// - An argument marked `#[extract]` is anything that implements axum's `FromRequestParts`.
///
/// What does not fit is answered with a problem before the handler is called: 400 for a path, a query or JSON that cannot
/// be read, 422 for JSON of the wrong content, 415 for a body that is not JSON, 413 for one that is too large. The
/// `violations` of the problem name every place: a JSON pointer, or a parameter.
///
/// An argument whose type implements `garde::Validate` is checked by its rules as well; see [`validate()`].
///
/// # Answers
///
/// A handler returns `T` or `Result<T, E>`, where `E` implements [`IntoProblem`](crate::problem::IntoProblem). `T` is one
/// of ours ([`Created`], [`Accepted`], [`NoContent`], [`Events`], [`JsonLines`], [`Raw`], `()` for 204), or anything that serializes, which is
/// answered as JSON, or else anything that axum can answer.
///
/// # Keys of the service
///
/// - `path = "/shop"`: stands in front of every route's path. It may hold parameters, `"/tenants/{tenant}"`; then every
///   handler with a route takes them. The route `"/"` is the path itself.
/// - `version = "v1"`: one segment in front of that: `/v1/shop/orders/{id}`.
/// - `tag = "orders"`: the group of every route in the OpenAPI document.
/// - `grpc = proto::orders_server::Orders`: the trait that tonic generates; see below.
///
/// # Keys of a route
///
/// They come after the path: `#[post("/orders", timeout = "2s", idempotent)]`. What they ask for is a
/// [`RoutePolicy`], and what it is good for stands there.
///
/// - `timeout = "2s"`: how long the handler may take. Units as in the configuration: `h`, `m`, `s`, `ms`, `us`, `ns`.
/// - `concurrency = 50`: how many requests are served at once; one more is turned away as `bulkhead_full`.
/// - `body_limit = "64KiB"`: the largest body. Units as in the configuration: `B`, `kB`, `KiB`, `MB`, `MiB`, `GB`, `GiB`; a
///   plain number is bytes.
/// - `idempotent`: a second request with the same content does no harm.
/// - `deprecated = "2026-06-30"`: since this day (UTC, its first second) callers should use something else.
/// - `sunset = "2027-06-30"`: from this day on the route will be gone. It needs `deprecated`.
/// - `tags = ["orders", "search"]`: further groups in the OpenAPI document.
///
/// # The same method over gRPC
///
/// `#[rpc]` serves a method as the rpc of its name (`order` is `Order`), `#[rpc(GetOrder)]` as another, with a route beside
/// it or alone. The service names the trait that tonic generates from the `.proto` file, and the types of the messages are
/// read off it.
///
/// - An argument is the message's field of its name, converted with `TryFrom`. What does not fit is `INVALID_ARGUMENT`, with
///   a violation for every field.
/// - An argument marked `#[message]` is the whole message, converted with `TryFrom`.
/// - What the method returns becomes the answer's message by `From`. Of [`Created`] and [`Accepted`] it is what they hold;
///   `()` and [`NoContent`] are an empty message.
/// - An error becomes a status by the same [`IntoProblem`](crate::problem::IntoProblem).
/// - The keys of the route hold for the rpc too. An rpc without a route has its own: `#[rpc(GetOrder, timeout = "2s")]`.
///
/// ```
/// # mod proto {
/// #     #[derive(Clone, PartialEq, prost::Message)]
/// #     pub struct GetOrderRequest { #[prost(uint64, tag = "1")] pub id: u64 }
/// #     #[derive(Clone, PartialEq, prost::Message)]
/// #     pub struct PlaceOrderRequest { #[prost(string, tag = "1")] pub sku: String }
/// #     #[derive(Clone, PartialEq, prost::Message)]
/// #     pub struct Order { #[prost(uint64, tag = "1")] pub id: u64, #[prost(string, tag = "2")] pub sku: String }
/// #     pub mod orders_server {
/// #         pub const SERVICE_NAME: &str = "orders.v1.Orders";
/// #         #[tonic::async_trait]
/// #         pub trait Orders: Send + Sync + 'static {
/// #             async fn get_order(&self, request: tonic::Request<super::GetOrderRequest>)
/// #                 -> Result<tonic::Response<super::Order>, tonic::Status>;
/// #             async fn place_order(&self, request: tonic::Request<super::PlaceOrderRequest>)
/// #                 -> Result<tonic::Response<super::Order>, tonic::Status>;
/// #         }
/// #     }
/// # }
/// use chassis::{problem::Problem, service::{Created, service}};
///
/// #[derive(serde::Serialize)]
/// struct Order {
///     id: u64,
///     sku: String,
/// }
///
/// #[derive(serde::Deserialize)]
/// struct NewOrder {
///     sku: String,
/// }
///
/// impl From<Order> for proto::Order {
///     fn from(Order { id, sku }: Order) -> Self {
///         Self { id, sku }
///     }
/// }
///
/// impl TryFrom<proto::PlaceOrderRequest> for NewOrder {
///     type Error = &'static str;
///     fn try_from(message: proto::PlaceOrderRequest) -> Result<Self, Self::Error> {
///         if message.sku.is_empty() { Err("sku is empty") } else { Ok(Self { sku: message.sku }) }
///     }
/// }
///
/// struct Orders;
///
/// #[service(grpc = proto::orders_server::Orders)]
/// impl Orders {
///     #[get("/orders/{id}")]
///     #[rpc(GetOrder)]
///     async fn order(&self, id: u64) -> Result<Order, Problem> {
///         if id == 7 { Ok(Order { id, sku: "a-01".into() }) } else { Err(Problem::not_found("order_unknown")) }
///     }
///
///     #[post("/orders")]
///     #[rpc]
///     async fn place_order(&self, #[message] order: NewOrder) -> Created<Order> {
///         Created::new(Order { id: 8, sku: order.sku })
///     }
/// }
/// ```
///
/// A trait with a streaming method names the stream, as the compiler asks for it:
/// `grpc = proto::orders_server::Orders<WatchStream = …>`. The streaming methods themselves are written by hand, as a tonic
/// server of their own service.
pub use chassis_rs_macros::service;

/// Makes a method of an impl block under [`macro@service`] a handler; that is where it is explained. Elsewhere it only says
/// where it belongs.
pub use chassis_rs_macros::{delete, get, head, patch, post, put, rpc};

/// A type whose methods answer requests. Implemented by [`macro@service`], or by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a service",
    note = "put `#[chassis::service]` on the impl block that holds its handlers"
)]
pub trait Service: Send + Sync + Sized + 'static {
    /// Every route, in the order of the methods.
    fn describe() -> Vec<RouteInfo>;

    /// The routes as a plain axum router.
    fn into_router(self: Arc<Self>) -> Router;

    /// The methods that are served over gRPC too. Default: none.
    fn into_grpc(self: Arc<Self>) -> Option<GrpcRoutes> {
        None
    }
}

/// What can be mounted: a service, an [`Arc`] of one, or a plain axum [`Router`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no routes to mount",
    note = "put `#[chassis::service]` on the impl block that holds its handlers, or pass an `axum::Router`",
    note = "a `Router<S>` needs its state before it is mounted: `router.with_state(state)` makes a `Router` of it",
    note = "a service around a `Router`, such as `NormalizePath<Router>`, hides its routes: mount the `Router`, and give the layer to `Chassis::layer`"
)]
pub trait IntoRoutes {
    /// The routes and what is known of them.
    fn into_routes(self) -> Routes;
}

impl IntoRoutes for Router {
    /// A plain router cannot say which routes it has: nothing is known of them, and no policy of theirs is applied.
    fn into_routes(self) -> Routes {
        Routes { router: self, infos: Vec::new(), grpc: None }
    }
}

impl<S: Service> IntoRoutes for Arc<S> {
    fn into_routes(self) -> Routes {
        Routes::of(self)
    }
}

impl IntoRoutes for Routes {
    fn into_routes(self) -> Routes {
        self
    }
}

/// Routes, ready to be mounted.
#[derive(Debug, Clone)]
pub struct Routes {
    /// The routes themselves.
    pub router: Router,
    /// What is known of them; a route may be served without being listed.
    pub infos: Vec<RouteInfo>,
    /// What is served over gRPC.
    pub grpc: Option<GrpcRoutes>,
}

impl Routes {
    /// The routes of a service.
    #[must_use]
    pub fn of<S: Service>(service: Arc<S>) -> Self {
        let of_service = |info| RouteInfo { service: std::any::type_name::<S>(), ..info };
        let infos = S::describe().into_iter().map(of_service).collect();
        let grpc = service.clone().into_grpc().map(|grpc| grpc.map_infos(of_service));
        Self { router: service.into_router(), infos, grpc }
    }

    /// Puts a layer around these routes, over HTTP and gRPC: authentication, CORS. It takes what [`Router::layer`] takes, and
    /// the layer added last is the outermost. The routes stay described, and the layer runs inside of the chassis's own.
    ///
    /// A `#[service]` block becomes [`Routes`] by [`IntoRoutes::into_routes`]:
    ///
    /// ```no_run
    /// use axum::middleware;
    /// use chassis::prelude::*;
    /// # use axum::{extract::Request, middleware::Next, response::{IntoResponse, Response}};
    /// # struct Orders;
    /// # #[service]
    /// # impl Orders { #[get("/orders")] async fn orders(&self) -> Vec<u64> { vec![7] } }
    /// # async fn with_key(request: Request, next: Next) -> Response {
    /// #     match request.headers().contains_key("x-key") {
    /// #         true => next.run(request).await,
    /// #         false => Problem::unauthenticated("no_key").into_response(),
    /// #     }
    /// # }
    ///
    /// #[chassis::main]
    /// async fn main(chassis: Chassis) -> chassis::Result<()> {
    ///     chassis.mount(Orders.into_routes().layer(middleware::from_fn(with_key))).serve().await
    /// }
    /// ```
    ///
    /// An rpc sees the layer behind the translation of gRPC-Web, as a method of a tonic server does. What the layer answers to
    /// a caller of gRPC should be gRPC: [`Problem::into_grpc`](crate::problem::Problem::into_grpc), or
    /// [`reject::answer`](crate::reject::answer) with the protocol of the [`RequestContext`](crate::RequestContext), which
    /// serves both. Which layers run for a path that no route matches is in [`Chassis::mount`](crate::Chassis::mount).
    #[must_use]
    pub fn layer<L>(self, layer: L) -> Self
    where
        L: Layer<Route> + Clone + Send + Sync + 'static,
        L::Service: tower_service::Service<Request> + Clone + Send + Sync + 'static,
        <L::Service as tower_service::Service<Request>>::Response: IntoResponse + 'static,
        <L::Service as tower_service::Service<Request>>::Error: Into<Infallible> + 'static,
        <L::Service as tower_service::Service<Request>>::Future: Send + 'static,
    {
        let grpc = self.grpc.map(|grpc| grpc.layer(layer.clone()));
        Self { router: self.router.layer(layer), grpc, ..self }
    }

    /// Returns whether nothing is known of the routes: those of a plain router.
    pub(crate) fn is_plain(&self) -> bool {
        self.infos.is_empty() && self.grpc.is_none()
    }
}

#[cfg(test)]
mod tests;
