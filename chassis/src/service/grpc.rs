//! Unary gRPC methods of a domain service: what `#[rpc]` generates, and what a person writes by hand in its place.
//!
//! The types of a method's messages are read off the server trait that tonic generates: [`shape`] takes the trait's own
//! method, so nothing has to be named twice and a message of another type does not compile.

use std::{
    collections::HashSet,
    convert::Infallible,
    fmt,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    Router,
    body::Body,
    response::{IntoResponse, Response},
    routing::{self, MethodRouter, Route},
};
use http::{HeaderName, Request};
use pin_project_lite::pin_project;
use prost::Message;
use tonic::{
    Code, Status,
    server::{Grpc, NamedService},
};
use tonic_prost::ProstCodec;
use tower_layer::Layer;
use tower_service::Service;

use super::info::RouteInfo;
use crate::{cause::Cause, problem::Problem};

/// The largest request message when nothing else is said, in bytes. gRPC's own default, in all languages.
const MESSAGE_LIMIT: usize = 4 << 20;

/// Says what compressions the server knows, when it refuses one (gRPC over HTTP/2, "Compression").
const ACCEPTED_ENCODINGS: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// Methods of one gRPC service, ready to be mounted.
///
/// An rpc is written by hand so:
///
/// ```
/// use std::sync::Arc;
///
/// use axum::Router;
/// use chassis::service::{Fields, GrpcRoutes, RouteInfo, Service, shape};
///
/// /// As `tonic_prost_build` makes it of the `.proto`.
/// mod proto {
/// #   #[derive(Clone, PartialEq, prost::Message)]
/// #   pub struct GetOrderRequest { #[prost(uint32, tag = "1")] pub id: u32 }
/// #   #[derive(Clone, PartialEq, prost::Message)]
/// #   pub struct Order { #[prost(uint32, tag = "1")] pub id: u32 }
/// #   /*
///     tonic::include_proto!("orders.v1");
/// #   */
/// #   pub mod orders_server {
/// #       pub const SERVICE_NAME: &str = "orders.v1.Orders";
/// #       #[tonic::async_trait]
/// #       pub trait Orders: Send + Sync + 'static {
/// #           async fn get_order(&self, request: tonic::Request<super::GetOrderRequest>)
/// #               -> Result<tonic::Response<super::Order>, tonic::Status>;
/// #       }
/// #   }
/// }
/// use proto::orders_server;
///
/// struct OrderId(u32);
///
/// impl TryFrom<u32> for OrderId {
///     type Error = &'static str;
///     fn try_from(id: u32) -> Result<Self, Self::Error> {
///         if id == 0 { Err("must not be 0") } else { Ok(Self(id)) }
///     }
/// }
///
/// struct Orders;
///
/// impl Orders {
///     async fn order(&self, id: OrderId) -> u32 {
///         id.0
///     }
/// }
///
/// impl Service for Orders {
///     fn describe() -> Vec<RouteInfo> {
///         Vec::new()
///     }
///
///     fn into_router(self: Arc<Self>) -> Router {
///         Router::new()
///     }
///
///     fn into_grpc(self: Arc<Self>) -> Option<GrpcRoutes> {
///         let info = RouteInfo::rpc(orders_server::SERVICE_NAME, "GetOrder", "order");
///         let types = shape(<dyn orders_server::Orders>::get_order);
///         let routes = GrpcRoutes::new(orders_server::SERVICE_NAME).unary(info, types, move |message| {
///             let orders = self.clone();
///             async move {
///                 let mut fields = Fields::new();
///                 let id = fields.take("id", message.id);
///                 let Some(id) = id else { return Err(fields.into_problem()) };
///                 Ok(proto::Order { id: orders.order(id).await })
///             }
///         });
///         Some(routes)
///     }
/// }
/// ```
#[derive(Debug, Clone)]
pub struct GrpcRoutes {
    name: &'static str,
    /// Apart until they are served, because a router panics when a path comes twice.
    methods: Vec<(String, MethodRouter)>,
    infos: Vec<RouteInfo>,
    message_limit: usize,
}

impl GrpcRoutes {
    /// No method yet of the service with this full name: `orders.v1.Orders`.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, methods: Vec::new(), infos: Vec::new(), message_limit: MESSAGE_LIMIT }
    }

    /// The largest request message of the methods that follow, in bytes. Default 4 MiB, as gRPC has it everywhere; a
    /// `body_limit` of the method's own counts instead.
    #[must_use]
    pub fn message_limit(mut self, bytes: usize) -> Self {
        self.message_limit = bytes;
        self
    }

    /// The full name of the service.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What is known of the methods.
    #[must_use]
    pub fn infos(&self) -> &[RouteInfo] {
        &self.infos
    }

    /// Serves one unary method; `info` comes from [`RouteInfo::rpc`].
    ///
    /// A problem goes out as a status with `google.rpc` details, and its word to the metrics. What cannot be read never
    /// comes to the handler:
    ///
    /// - A message over the limit is `RESOURCE_EXHAUSTED`, with the word `payload_too_large`.
    /// - A message that is no protobuf, not of this type, cut short, or missing is `INVALID_ARGUMENT`, with the word
    ///   `invalid_request`. gRPC's own libraries answer `INTERNAL`, as their [table of codes] says. But it is the caller who
    ///   is wrong: `INTERNAL` counts as the service's failure in every alert, and proxies try it again.
    /// - A compression that is not known is `UNIMPLEMENTED`, and `grpc-accept-encoding` says which ones are.
    ///
    /// [table of codes]: https://github.com/grpc/grpc/blob/master/doc/statuscodes.md
    #[must_use]
    pub fn unary<Req, Res, H, F>(mut self, info: RouteInfo, _: Shape<Req, Res>, handler: H) -> Self
    where
        Req: Message + Default + 'static,
        Res: Message + 'static,
        H: Fn(Req) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Res, Problem>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let limit =
            info.policy.body_limit.map_or(self.message_limit, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let call = move |request: Request<Body>| {
            let handler = handler.clone();
            async move {
                let mut told = Told::NotCalled;
                let service = Unary { handler: &*handler, told: Some(&mut told), types: PhantomData };
                let mut grpc = Grpc::new(ProstCodec::<Res, Req>::default()).max_decoding_message_size(limit);
                let response = grpc.unary(service, request).await;
                match told {
                    Told::Message => response.map(Body::new),
                    // A problem keeps its word for the metrics, which a bare status has not.
                    Told::Problem(problem) => problem.into_grpc(),
                    Told::NotCalled => unread(response, limit),
                }
            }
        };
        self.methods.push((info.path.clone().into_owned(), routing::post(call)));
        self.infos.push(info);
        self
    }

    /// The same methods behind a layer.
    pub(super) fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Route> + Clone + Send + Sync + 'static,
        L::Service: Service<Request<Body>> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request<Body>>>::Response: IntoResponse + 'static,
        <L::Service as Service<Request<Body>>>::Error: Into<Infallible> + 'static,
        <L::Service as Service<Request<Body>>>::Future: Send + 'static,
    {
        self.methods = self.methods.into_iter().map(|(path, method)| (path, method.layer(layer.clone()))).collect();
        self
    }

    pub(crate) fn map_infos(mut self, change: impl Fn(RouteInfo) -> RouteInfo) -> Self {
        self.infos = self.infos.into_iter().map(change).collect();
        self
    }

    /// The methods of all these services. Of a path that comes twice the first is served; [`clashes`] refuses it before.
    pub(crate) fn router(all: Vec<Self>) -> Router {
        let mut seen = HashSet::new();
        let methods = all.into_iter().flat_map(|routes| routes.methods);
        let methods = methods.filter(|(path, _)| seen.insert(path.clone()));
        methods.fold(Router::new(), |router, (path, method)| router.route(&path, method))
    }
}

/// The answer to a message that tonic could not read, in our words.
#[cold]
fn unread(response: http::Response<tonic::body::Body>, limit: usize) -> Response {
    let Some(status) = Status::from_header_map(response.headers()) else { return response.map(Body::new) };
    let invalid = |problem: Problem| problem.detail(status.message()).refused(Cause::InvalidRequest).into_grpc();
    match status.code() {
        // The one of a message as it came, the other of one that was compressed.
        Code::OutOfRange | Code::ResourceExhausted => Problem::from(Cause::PayloadTooLarge)
            .detail(format!("the message is larger than {limit} bytes"))
            .refused(Cause::PayloadTooLarge)
            .into_grpc(),
        Code::Internal => invalid(Problem::from(Cause::InvalidRequest)),
        Code::Unimplemented => {
            let title = Cause::InvalidRequest.title();
            let mut refusal = invalid(Problem::not_implemented(Cause::InvalidRequest.as_str()).title(title));
            if let Some(known) = response.headers().get(&ACCEPTED_ENCODINGS) {
                refusal.headers_mut().insert(ACCEPTED_ENCODINGS, known.clone());
            }
            refusal
        }
        // The caller went away.
        _ => response.map(Body::new),
    }
}

/// A tonic server of one gRPC service, as tonic generates it, with whatever layers around it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no gRPC server",
    label = "expected a tonic server with the name of its service",
    note = "a tower layer hides the name: put it on with `use tonic::service::LayerExt as _;` and `layer.named_layer(server)`; several as one, with `tower::ServiceBuilder::new().layer(…).layer(…).named_layer(server)`",
    note = "an implementation of the trait that tonic generates goes into its server: `OrdersServer::new(orders)`",
    note = "a layer of `tonic::transport::Server::builder().layer(…)` goes to `Chassis::layer`, or around each server"
)]
pub trait GrpcServer:
    Service<Request<tonic::body::Body>, Response: IntoResponse, Error = Infallible, Future: Send + 'static>
    + NamedService
    + Clone
    + Send
    + Sync
    + 'static
{
}

#[diagnostic::do_not_recommend]
impl<G> GrpcServer for G
where
    G: Service<Request<tonic::body::Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
    G::Response: IntoResponse,
    G::Future: Send + 'static,
{
}

/// The message types of a unary method.
pub struct Shape<Req, Res>(PhantomData<fn(Req) -> Res>);

impl<Req, Res> Shape<Req, Res> {
    /// Of a method whose trait is not at hand: its messages are named instead. Where it is, there is [`shape`].
    #[must_use]
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<Req, Res> Default for Shape<Req, Res> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Req, Res> Clone for Shape<Req, Res> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Req, Res> Copy for Shape<Req, Res> {}

impl<Req, Res> fmt::Debug for Shape<Req, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shape")
    }
}

type Answer<'a, Res> = Pin<Box<dyn Future<Output = Result<tonic::Response<Res>, Status>> + Send + 'a>>;

/// The message types of a method of the server trait that tonic generates: `shape(<dyn Orders>::get_order)`.
///
/// A trait with a streaming method names its stream: `<dyn Orders<WatchStream = …>>::get_order`.
pub fn shape<'a, S: ?Sized + 'a, Req, Res>(_: fn(&'a S, tonic::Request<Req>) -> Answer<'a, Res>) -> Shape<Req, Res> {
    Shape(PhantomData)
}

/// What a handler said.
enum Told {
    /// Nothing: the message did not get to it.
    NotCalled,
    Message,
    Problem(Problem),
}

struct Unary<'a, H, Req, Res> {
    handler: &'a H,
    told: Option<&'a mut Told>,
    types: PhantomData<fn(Req) -> Res>,
}

impl<'a, H, F, Req, Res> tonic::server::UnaryService<Req> for Unary<'a, H, Req, Res>
where
    H: Fn(Req) -> F,
    F: Future<Output = Result<Res, Problem>>,
{
    type Response = Res;
    type Future = UnaryFuture<'a, F>;

    fn call(&mut self, request: tonic::Request<Req>) -> Self::Future {
        UnaryFuture { inner: (self.handler)(request.into_inner()), told: self.told.take() }
    }
}

pin_project! {
    /// The outcome for tonic; what it was is kept beside it.
    struct UnaryFuture<'a, F> {
        #[pin]
        inner: F,
        told: Option<&'a mut Told>,
    }
}

impl<F, Res> Future for UnaryFuture<'_, F>
where
    F: Future<Output = Result<Res, Problem>>,
{
    type Output = Result<tonic::Response<Res>, Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (told, outcome) = match ready!(this.inner.poll(cx)) {
            Ok(message) => (Told::Message, Ok(tonic::Response::new(message))),
            Err(problem) => {
                let status = Status::new(problem.grpc_code(), "");
                (Told::Problem(problem), Err(status))
            }
        };
        if let Some(place) = this.told.take() {
            *place = told;
        }
        Poll::Ready(outcome)
    }
}

#[cfg(test)]
mod tests;
