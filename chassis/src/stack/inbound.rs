//! What a request passes on its way in, outermost first.

use std::{borrow::Cow, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{ConnectInfo, Request},
};
use tonic::metadata::MetadataMap;
use tower::{ServiceBuilder, ServiceExt};

use super::own::{Own, OwnLayer};
use crate::{
    body_limit::{BodyLimit, BodyLimitLayer},
    catch_panic::{CatchPanic, CatchPanicLayer},
    deadline::{Deadline, DeadlineLayer},
    drain::{Drain, DrainLayer},
    fallback::{Fallback, FallbackLayer},
    host::{Host, HostLayer},
    observe::{Observe, ObserveLayer, Observer, connection::Connection},
    route::{Policies, RouteLayer},
    server::config::HttpConfig,
    shutdown::Shutdown,
};

/// The whole stack in front of the router.
pub(crate) type Inbound = Observe<CatchPanic<Drain<Own<Deadline<Host<BodyLimit<Fallback<Router>>>>>>>>;

/// Puts the stack around the routes. `layers` are the service's own, innermost first.
pub(crate) fn inbound(
    routes: Router,
    config: &HttpConfig,
    observer: &Arc<Observer>,
    policies: &Arc<Policies>,
    shutdown: Shutdown,
    layers: Vec<OwnLayer>,
) -> Inbound {
    // On the routes themselves, because only there axum has matched: tells the observer which route answers, and holds the
    // request to what that route asks for. The order inside is written in `route/mod.rs`.
    let routes = routes.layer(RouteLayer::new(observer.clone(), policies.clone())).with_state(());
    let inner = ServiceBuilder::new()
        // Before anything that takes time, so that expired work costs nothing.
        .layer(DeadlineLayer::new(config.request_timeout.get()))
        // Behind the deadline, which costs nothing, and before anybody trusts the host.
        .layer(HostLayer)
        // Before the handler, the first that reads the body.
        .layer(BodyLimitLayer::new(config.body_limit.0))
        // Next to the router, whose bare answers it fills.
        .layer(FallbackLayer)
        .service(routes);
    // Outside of all that turns requests away: without its CORS headers a page cannot read a refusal.
    let layered = Own::new(inner, layers);
    ServiceBuilder::new()
        // Sees every outcome, the refusals of all other layers included.
        .layer(ObserveLayer::new(observer.clone()))
        // Inside the observer, so that a panic is an outcome like any other.
        .layer(CatchPanicLayer)
        // Marks refusals too: a caller that was turned away moves on as well.
        .layer(DrainLayer::new(shutdown))
        .service(layered)
}

/// The caller's address as the server of the connection says it: axum's with `ConnectInfo`, tonic's with a type of its own for
/// plain connections and another one for TLS, which tonic itself reads.
fn peer_of(request: &mut Request) -> Option<SocketAddr> {
    if let Some(ConnectInfo(peer)) = request.extensions().get() {
        return Some(*peer);
    }
    let extensions = std::mem::take(request.extensions_mut());
    let asked = tonic::Request::from_parts(MetadataMap::new(), extensions, ());
    let peer = asked.remote_addr();
    *request.extensions_mut() = asked.into_parts().1;
    peer
}

/// The stack as a router, for a server that is not the chassis's. Of the connection it knows what [`peer_of`] finds.
pub(crate) fn router(inbound: Inbound) -> Router {
    Router::new().fallback_service(tower::service_fn(move |mut request: Request| {
        let peer = peer_of(&mut request);
        let mut inbound = inbound.clone();
        if peer.is_some() {
            inbound = inbound.of(Arc::new(Connection::new(peer)));
        }
        inbound.oneshot(request)
    }))
}

/// One line of the `layers` command: the layer's name, what it does, and its numbers.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct LayerInfo {
    /// The destination that a layer of calls out belongs to; absent on the way in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client: Option<String>,
    pub(crate) name: &'static str,
    pub(crate) does: &'static str,
    pub(crate) settings: Vec<(Cow<'static, str>, String)>,
}

/// The effective order with its resolved numbers. A test compares it with the type of the stack.
/// `own` has the types of the service's own layers, innermost first.
pub(crate) fn describe<'a>(config: &HttpConfig, own: impl DoubleEndedIterator<Item = &'a str>) -> Vec<LayerInfo> {
    let layer = |name, does, settings| LayerInfo { client: None, name, does, settings };
    let outer = [
        layer("observe", "trace context, span, metrics, access log", vec![]),
        layer("catch_panic", "a panic is 500 / INTERNAL, counted", vec![]),
        layer("drain", "connection: close while stopping; ends event streams", vec![]),
    ];
    let own = own.rev().map(|name| layer("own", "a layer of the service", vec![("type".into(), name.to_owned())]));
    let inner = [
        layer(
            "deadline",
            "the caller's, the route's or the server's time limit",
            vec![("http.request_timeout".into(), config.request_timeout.to_string())],
        ),
        layer("host", "400 for HTTP/1.1 without exactly one host", vec![]),
        layer("body_limit", "413 above the limit", vec![("http.body_limit".into(), config.body_limit.to_string())]),
        layer("fallback", "404 and 405 in the caller's protocol", vec![]),
        layer("router", "axum matches the route", vec![]),
        layer("route", "its timeout, accept, body limit, concurrency", vec![]),
    ];
    outer.into_iter().chain(own).chain(inner).collect()
}

#[cfg(test)]
mod tests {
    use tonic::transport::server::TcpConnectInfo;

    use super::*;

    #[test]
    fn a_peer_is_known_behind_axums_and_tonics_server() {
        let peer = SocketAddr::from(([192, 0, 2, 7], 4711));
        let mut request = Request::default();
        assert_eq!(peer_of(&mut request), None);
        request.extensions_mut().insert(TcpConnectInfo { local_addr: None, remote_addr: Some(peer) });
        assert_eq!(peer_of(&mut request), Some(peer));
        assert!(request.extensions().get::<TcpConnectInfo>().is_some(), "it stays for tonic");
        let mut request = Request::default();
        request.extensions_mut().insert(ConnectInfo(peer));
        assert_eq!(peer_of(&mut request), Some(peer));
    }

    #[test]
    fn the_described_order_is_the_order_of_the_stack() {
        let described: Vec<String> = describe(&HttpConfig::default(), ["layer"].into_iter())
            .iter()
            .map(|layer| layer.name.replace('_', ""))
            .collect();
        let nested = std::any::type_name::<Inbound>();
        let names: Vec<String> = nested
            .split('<')
            .filter_map(|part| part.split("::").last())
            .map(|name| name.trim_end_matches('>').to_lowercase())
            .collect();
        assert_eq!(names[..9], described[..9]);
    }
}
