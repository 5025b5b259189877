//! What is known of one route: its template, its policy, and its series of metrics, resolved once.

use std::{
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use axum::extract::MatchedPath;
use http::{Method, Request};
use tower_layer::Layer;
use tower_service::Service;

use super::Observer;
use crate::{
    context::RequestContext,
    telemetry::metrics::{HttpSeries, METHODS, method_index},
};

/// One route template with its policy and, for each method, its series.
pub(crate) struct RouteStats {
    template: Box<str>,
    timeout: Option<Duration>,
    quiet: bool,
    series: [OnceLock<HttpSeries>; METHODS.len()],
}

impl RouteStats {
    pub(crate) fn new(template: &str, timeout: Option<Duration>, quiet: bool) -> Self {
        Self { template: template.into(), timeout, quiet, series: Default::default() }
    }

    pub(crate) fn template(&self) -> &str {
        &self.template
    }

    /// Whether a success is not worth an access line.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    pub(crate) fn series(&self, observer: &Observer, method: &Method) -> &HttpSeries {
        self.series[method_index(method)].get_or_init(|| observer.server_metrics().http_series(&self.template, method))
    }
}

impl std::fmt::Debug for RouteStats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouteStats").field("template", &self.template).finish_non_exhaustive()
    }
}

/// Tells the observer which route answers: goes on the routes themselves (`Router::layer`), where axum has matched.
///
/// It also applies the route's own timeout to the request's deadline.
#[derive(Clone, Debug)]
pub struct RouteMarkerLayer {
    observer: Arc<Observer>,
}

impl RouteMarkerLayer {
    pub(crate) fn new(observer: Arc<Observer>) -> Self {
        Self { observer }
    }
}

impl<S> Layer<S> for RouteMarkerLayer {
    type Service = RouteMarker<S>;

    fn layer(&self, inner: S) -> RouteMarker<S> {
        RouteMarker { inner, slot: Arc::new(OnceLock::new()), observer: self.observer.clone() }
    }
}

/// See [`RouteMarkerLayer`].
#[derive(Clone, Debug)]
pub struct RouteMarker<S> {
    inner: S,
    slot: Arc<OnceLock<Arc<RouteStats>>>,
    observer: Arc<Observer>,
}

impl<S, B> Service<Request<B>> for RouteMarker<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        RequestContext::with_current(|context| {
            let Some(context) = context else { return };
            let route = match self.slot.get() {
                Some(route) => route,
                None => {
                    let Some(path) = request.extensions().get::<MatchedPath>() else { return };
                    self.slot.get_or_init(|| self.observer.route(request.method(), path.as_str()))
                }
            };
            if let Some(timeout) = route.timeout {
                context.limit(context.started() + timeout);
            }
            let _ = context.0.route.set(route.clone());
        });
        self.inner.call(request)
    }
}
