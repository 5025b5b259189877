//! What a call passes on its way out, outermost first.

use std::{fmt, pin::Pin, sync::Arc, task::Poll};

use axum::body::Body;
use http::{Request, Response};
use tokio::sync::watch;
use tower_service::Service;

use crate::{
    client::{
        ClientConfig, RequestBody,
        balance::{Available, Balance, MakeEndpoint},
        destination::Stack,
        pool::{Pool, Pools},
    },
    discovery::{Endpoint, Resolution},
    error::{BoxError, Result},
};

/// The whole stack of one destination.
pub(crate) type Outbound = Balance<Endpoints>;

/// What each endpoint has for itself.
pub(crate) type PerEndpoint = Always<Pool>;

/// Makes the inner part of the stack, for each endpoint its own.
#[derive(Debug)]
pub(crate) struct Endpoints {
    pools: Arc<Pools>,
}

impl MakeEndpoint for Endpoints {
    type Service = PerEndpoint;

    fn make(&self, endpoint: &Endpoint) -> PerEndpoint {
        Always(self.pools.pool(endpoint))
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Always<S>(S);

impl<S> Available for Always<S> {
    fn is_available(&self, _: std::time::Instant) -> bool {
        true
    }
}

impl<S: Service<Request<RequestBody>>> Service<Request<RequestBody>> for Always<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<RequestBody>) -> S::Future {
        self.0.call(request)
    }
}

/// Puts the stack of a destination together.
///
/// # Errors
///
/// Exit code 78: a certificate or key that cannot be read.
pub(crate) fn outbound(
    config: &ClientConfig,
    zone: Option<&str>,
) -> Result<impl FnOnce(watch::Receiver<Resolution>) -> Box<dyn Stack>> {
    let pools = Pools::new(&config.pool, config.protocol, &config.tls)?;
    let (balance, zone) = (config.balance.clone(), zone.map(Into::into));
    Ok(move |endpoints| {
        let scheme = pools.scheme().clone();
        let balance = Balance::with_scheme(endpoints, Endpoints { pools }, &balance, zone, scheme);
        Box::new(Parts { service: balance.clone(), balance }) as Box<dyn Stack>
    })
}

/// The stack, and a hold on those of its layers that are changed or looked at.
struct Parts {
    service: Outbound,
    balance: Balance<Endpoints>,
}

impl Stack for Parts {
    fn send(
        &self,
        request: Request<RequestBody>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>> {
        // Every layer is ready at any time; what it holds back it tells in `call`.
        let answered = self.service.clone().call(request);
        Box::pin(async move { Ok(answered.await?.map(Body::new)) })
    }

    fn send_grpc(
        &self,
        request: Request<RequestBody>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<tonic::body::Body>, BoxError>> + Send>> {
        let answered = self.service.clone().call(request);
        Box::pin(async move { Ok(answered.await?.map(tonic::body::Body::new)) })
    }

    fn configure(&self, config: &ClientConfig) {
        self.balance.configure(&config.balance);
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::any::type_name::<Outbound>())
    }
}
