//! What the main port answers: mounted services and routers, tonic servers, and layers around them all.

use std::{any::type_name, convert::Infallible};

use axum::{extract::Request, response::IntoResponse, routing::Route};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use tonic::service::Routes as GrpcRoutes;
use tower_layer::Layer;
use tower_service::Service;

use super::Chassis;
use crate::{
    coherence::{self, Conflict, GrpcSource},
    service::{GrpcServer, IntoRoutes},
    stack::OwnLayer,
    telemetry::log,
};

/// Whose default fallback answers what no route matches. The layers that were put on a router are around its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FallbackOf {
    Chassis,
    /// The first block that was mounted, while there is no plain router.
    Block,
    /// The first plain router that was mounted.
    PlainRouter,
}

impl<S> Chassis<S>
where
    S: DeserializeOwned + JsonSchema + Send + Sync + 'static,
{
    /// Serves a `#[service]` type, or any axum `Router`.
    ///
    /// Routes that overlap with others are a reason not to start: [`serve`](Chassis::serve) says all of them at once. A plain
    /// router cannot say what it holds, so only what axum found is told of it.
    ///
    /// # Paths that no route matches
    ///
    /// A `Router::fallback` answers them, whichever router has it; two routers with one each are refused. Without one they are
    /// 404 behind the layers of one router: the one that was mounted first, or of blocks the first where no router is mounted.
    /// So what is mounted later does not change these answers, and its layers run for its own routes only. A layer that must
    /// see every request goes to [`Chassis::layer`].
    #[must_use]
    pub fn mount<R: IntoRoutes>(mut self, service: R) -> Self {
        let name = coherence::short(type_name::<R>());
        let routes = match log::caught(|| service.into_routes()) {
            Ok(routes) => routes,
            Err(panic) => {
                let place = panic.location.map(|place| format!(" at {place}")).unwrap_or_default();
                let message = format!("its routes cannot be put together: {}{place}", panic.message);
                self.conflicts.push(Conflict::new(name, message));
                return self;
            }
        };
        // Described on both sides, it is told better by the rules, with both handlers.
        let described = coherence::overlap(&self.routes, &routes.infos);
        let newcomer = if routes.is_plain() { FallbackOf::PlainRouter } else { FallbackOf::Block };
        // Of two default fallbacks axum keeps that of the argument.
        let merge = || match newcomer > self.fallback {
            true => self.router.clone().merge(routes.router),
            false => routes.router.merge(self.router.clone()),
        };
        match log::caught(merge) {
            Ok(router) => {
                self.router = router;
                self.fallback = self.fallback.max(newcomer);
            }
            Err(_) if described => {}
            Err(panic) => {
                let advice = if panic.message.contains("both have a fallback") {
                    "keep one fallback, and take the other away with Router::reset_fallback"
                } else {
                    "change the path or the method of one"
                };
                let message = format!("it cannot be served beside what was mounted before it: {}", panic.message);
                self.conflicts.push(Conflict::new(name, format!("{message}; {advice}")));
            }
        }
        self.routes.extend(routes.infos);
        if let Some(grpc) = routes.grpc {
            self.name_grpc(grpc.name(), GrpcSource::Mounted);
            self.routes.extend_from_slice(grpc.infos());
            self.rpcs.push(grpc);
        }
        self
    }

    /// Puts a layer around everything that the chassis answers on the main port: around routes of every kind, over HTTP,
    /// gRPC and gRPC-Web, around the probes and the document, and around what the chassis answers itself, 404, 405, 413, 500
    /// and 504 among them. The layer added last is the outermost. It takes what [`Router::layer`] takes.
    ///
    /// It is the place of what must hold for every answer: CORS, security headers. Outside of it are only the observer, which
    /// counts and logs what the layer answers, and what marks answers while the service stops. The request's deadline does not
    /// hold for the layer, so one that waits belongs on a [`Router`] or a block: [`Routes::layer`](crate::service::Routes::layer).
    ///
    /// ```no_run
    /// use axum::{Router, http::{HeaderValue, header}, middleware, response::Response};
    /// use chassis::prelude::*;
    ///
    /// async fn strict(mut answer: Response) -> Response {
    ///     let value = HeaderValue::from_static("max-age=63072000");
    ///     answer.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, value);
    ///     answer
    /// }
    ///
    /// #[chassis::main]
    /// async fn main(chassis: Chassis) -> chassis::Result<()> {
    ///     chassis.mount(Router::new()).layer(middleware::map_response(strict)).serve().await
    /// }
    /// ```
    #[must_use]
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Route> + Clone + Send + Sync + 'static,
        L::Service: Service<Request> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request>>::Response: IntoResponse + 'static,
        <L::Service as Service<Request>>::Error: Into<Infallible> + 'static,
        <L::Service as Service<Request>>::Future: Send + 'static,
    {
        self.layers.push(OwnLayer::new(coherence::short(type_name::<L>()), layer));
        self
    }

    /// Whether it is the first from there.
    fn name_grpc(&mut self, name: &'static str, source: GrpcSource) -> bool {
        let first = !self.grpc_sources.contains(&(name, source));
        self.grpc_sources.push((name, source));
        if !self.grpc_names.contains(&name) {
            self.core.health.register_grpc_service(name);
            self.grpc_names.push(name);
        }
        first
    }

    /// Serves a tonic server on the same port, with gRPC-Web, and with `grpc.health.v1` beside it.
    #[must_use]
    pub fn grpc<G: GrpcServer>(mut self, server: G) -> Self {
        // tonic panics at the second one of a name; the rules refuse it.
        if self.name_grpc(G::NAME, GrpcSource::Server) {
            self.grpc.get_or_insert_with(GrpcRoutes::builder).add_service(server);
        }
        self
    }
}
