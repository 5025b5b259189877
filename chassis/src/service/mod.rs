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

use std::sync::Arc;

use axum::Router;

pub use arguments::{Arguments, Rejection};
pub use grpc::{GrpcRoutes, Shape, shape};
pub use info::{AnswerInfo, AnswerKind, ArgumentInfo, Content, RouteInfo, RouteKind, Source, TypeInfo};
pub use message::Fields;
pub use policy::{Deprecation, RoutePolicy};
pub use reply::{Accepted, Created, NoContent, Raw, Reply, json};
pub use stream::{Event, Events, JsonLines};
pub use validate::validate;

/// Makes a service of a type: reads the signatures in an impl block, keeps the block as it is written, and adds the wiring.
///
/// A method with a route is a handler: `#[get("/orders/{id}")]`, likewise `post`, `put`, `patch`, `delete`, `head`. It is
/// `async` and takes `&self`. Methods without a route are left alone.
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
/// # Policy
///
/// Keys after the path: `#[post("/orders", timeout = "2s")]`.
///
/// - `timeout`: how long the handler may take.
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
/// #[service]
/// impl Orders {
///     /// Look one order up.
///     #[get("/orders/{id}")]
///     async fn order(&self, id: u64) -> Order {
///         Order { id }
///     }
///
///     /// Place an order.
///     #[post("/orders", timeout = "2s")]
///     async fn place(&self, order: Order) -> Created<Order> {
///         Created::new(order)
///     }
/// }
/// ```
pub use chassis_rs_macros::service;

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
    note = "put `#[chassis::service]` on the impl block that holds its handlers, or pass an `axum::Router`"
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
}

#[cfg(test)]
mod tests;
