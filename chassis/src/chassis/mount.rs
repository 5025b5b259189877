//! What the main port answers: mounted services and routers, tonic servers, and layers around them all.

use std::{any::type_name, convert::Infallible};

use axum::{Router, extract::Request, response::IntoResponse, routing::Route};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes as GrpcRoutes;
use tower_layer::Layer;
use tower_service::Service;

use super::Chassis;
use crate::{
    coherence::{self, Conflict, GrpcSource},
    deadline::DeadlineLayer,
    error::{Error, Result, chain},
    grpc_only::GrpcOnlyLayer,
    health,
    observe::GrpcWebStatusLayer,
    openapi,
    service::{GrpcRoutes as Rpcs, GrpcServer, IntoRoutes},
    stack::OwnLayer,
    telemetry::log,
};

/// What is served beside the service's own gRPC services.
const OWN_GRPC_SERVICES: [&str; 3] =
    ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];

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

    /// Returns whether it is the first from there.
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

    /// What the main port answers for the chassis itself.
    pub(super) fn own_routes(&self) -> Router {
        let probes = health::http::probes(self.core.health.clone());
        if openapi::described(&self.routes).next().is_none() {
            return probes;
        }
        let service = &self.core.identity.service;
        probes.merge(openapi::http::routes(&self.openapi(), service, &self.settings.value().openapi, &self.routes))
    }

    /// Everything the main port answers; the check has put the chassis's own routes there already.
    pub(super) fn all_routes(&mut self, streams_end: &CancellationToken) -> Result<Router> {
        let mut router = std::mem::take(&mut self.router);
        if !self.grpc_names.is_empty() {
            let mut grpc = self.grpc.take().unwrap_or_else(GrpcRoutes::builder);
            grpc.add_service(health::grpc::server(self.core.health.clone(), streams_end.clone()));
            if !self.descriptors.is_empty() {
                let broken = |error: tonic_reflection::server::Error| {
                    Error::internal("grpc_reflection: the file descriptor set cannot be read").caused_by(chain(&error))
                };
                grpc.add_service(self.reflection().build_v1().map_err(broken)?);
                grpc.add_service(self.reflection().build_v1alpha().map_err(broken)?);
            }
            let rpcs = Rpcs::router(std::mem::take(&mut self.rpcs));
            let grpc = grpc.routes().prepare().into_axum_router().reset_fallback().merge(rpcs);
            // Inside the translation, where a stream's trailers are still trailers.
            let grpc = grpc
                .route_layer(DeadlineLayer::inside_grpc_web())
                .route_layer(GrpcWebStatusLayer)
                .route_layer(GrpcOnlyLayer);
            // Whatever else axum finds: a route of one's own below a gRPC service's path.
            router = log::caught(|| grpc.merge(router)).map_err(|panic| {
                let message = format!("the routes clash with the gRPC services: {}; change their path", panic.message);
                Error::config(message)
            })?;
        }
        Ok(router)
    }

    /// The names of the gRPC services that the chassis adds.
    pub(super) fn own_grpc_services(&self) -> &'static [&'static str] {
        match (self.grpc_names.is_empty(), self.descriptors.is_empty()) {
            (true, _) => &[],
            (false, true) => &OWN_GRPC_SERVICES[..1],
            (false, false) => &OWN_GRPC_SERVICES,
        }
    }

    /// The names of all gRPC services that are served.
    pub(super) fn grpc_services(&self) -> Vec<String> {
        self.grpc_names.iter().chain(self.own_grpc_services()).map(|name| (*name).to_owned()).collect()
    }

    fn reflection(&self) -> tonic_reflection::server::Builder<'static> {
        let descriptors = self.descriptors.iter().copied().chain([health::grpc::FILE_DESCRIPTOR_SET]);
        descriptors.fold(tonic_reflection::server::Builder::configure(), |builder, descriptor| {
            builder.register_encoded_file_descriptor_set(descriptor)
        })
    }
}
