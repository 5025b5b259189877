//! Unary gRPC methods of a domain service: what `#[rpc]` generates, and what a person writes by hand in its place.
//!
//! The types of a method's messages are read off the server trait that tonic generates: [`shape`] takes the trait's own
//! method, so nothing has to be named twice and a message of another type does not compile.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{Router, body::Body, routing};
use http::Request;
use pin_project_lite::pin_project;
use prost::Message;
use tonic::{Status, server::Grpc};
use tonic_prost::ProstCodec;

use super::info::RouteInfo;
use crate::problem::Problem;

/// Methods of one gRPC service, ready to be mounted.
#[derive(Debug, Clone)]
pub struct GrpcRoutes {
    name: &'static str,
    router: Router,
    infos: Vec<RouteInfo>,
}

impl GrpcRoutes {
    /// No method yet of the service with this full name: `orders.v1.Orders`.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, router: Router::new(), infos: Vec::new() }
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
    #[must_use]
    pub fn unary<Req, Res, H, F>(mut self, info: RouteInfo, _: Shape<Req, Res>, handler: H) -> Self
    where
        Req: Message + Default + 'static,
        Res: Message + 'static,
        H: Fn(Req) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Res, Problem>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let call = move |request: Request<Body>| {
            let handler = handler.clone();
            async move {
                let mut problem = None;
                let service = Unary { handler: &*handler, problem: Some(&mut problem), types: PhantomData };
                let response = Grpc::new(ProstCodec::<Res, Req>::default()).unary(service, request).await;
                // A problem keeps its word for the metrics, which a bare status has not.
                problem.map_or_else(|| response.map(Body::new), Problem::into_grpc)
            }
        };
        self.router = self.router.route(&info.path, routing::post(call));
        self.infos.push(info);
        self
    }

    pub(crate) fn map_infos(mut self, change: impl Fn(RouteInfo) -> RouteInfo) -> Self {
        self.infos = self.infos.into_iter().map(change).collect();
        self
    }

    pub(crate) fn into_router(self) -> Router {
        self.router
    }
}

/// The message types of a unary method.
pub struct Shape<Req, Res>(PhantomData<fn(Req) -> Res>);

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

struct Unary<'a, H, Req, Res> {
    handler: &'a H,
    problem: Option<&'a mut Option<Problem>>,
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
        UnaryFuture { inner: (self.handler)(request.into_inner()), problem: self.problem.take() }
    }
}

pin_project! {
    /// The outcome for tonic; a problem is kept beside it.
    struct UnaryFuture<'a, F> {
        #[pin]
        inner: F,
        problem: Option<&'a mut Option<Problem>>,
    }
}

impl<F, Res> Future for UnaryFuture<'_, F>
where
    F: Future<Output = Result<Res, Problem>>,
{
    type Output = Result<tonic::Response<Res>, Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        Poll::Ready(match ready!(this.inner.poll(cx)) {
            Ok(message) => Ok(tonic::Response::new(message)),
            Err(problem) => {
                let code = problem.grpc_code();
                if let Some(place) = this.problem.take() {
                    *place = Some(problem);
                }
                Err(Status::new(code, ""))
            }
        })
    }
}
