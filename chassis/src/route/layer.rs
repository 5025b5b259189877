use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{body::Body, extract::MatchedPath};
use http::{Method, Request, Response, StatusCode, header::ACCEPT};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    Policies,
    body::{Tripped, limited},
    policies::{Policy, Verdict},
};
use crate::{
    cause::{Cause, Refusal},
    config::ByteSize,
    context::{Protocol, RequestContext},
    // floor: the observer keeps what is known of a route; this layer tells it which one answers
    observe::{Observer, route::RouteStats},
    problem::{Problem, clipped},
    reject::{reject, reject_with},
};

/// Marks requests with their route and holds them to its policy. See the [module](super).
///
/// Goes on the routes themselves (`Router::layer`), where axum has matched.
#[derive(Clone, Debug)]
pub struct RouteLayer {
    observer: Arc<Observer>,
    policies: Arc<Policies>,
}

impl RouteLayer {
    pub(crate) fn new(observer: Arc<Observer>, policies: Arc<Policies>) -> Self {
        Self { observer, policies }
    }
}

impl<S> Layer<S> for RouteLayer {
    type Service = Route<S>;

    fn layer(&self, inner: S) -> Route<S> {
        Route { inner, place: Arc::new(Place { known: OnceLock::new(), layer: self.clone() }) }
    }
}

/// See [`RouteLayer`].
#[derive(Clone, Debug)]
pub struct Route<S> {
    inner: S,
    place: Arc<Place>,
}

/// One place of the router, with what is known of it since its first request. Shared, because axum clones a route for each
/// request.
#[derive(Debug)]
struct Place {
    known: OnceLock<Known>,
    layer: RouteLayer,
}

/// What is known of a template.
#[derive(Debug)]
struct Known {
    /// For methods that nobody described.
    plain: Arc<RouteStats>,
    described: Vec<(Method, Arc<RouteStats>, Policy)>,
}

impl Place {
    fn known<B>(&self, request: &Request<B>) -> Option<&Known> {
        if let Some(known) = self.known.get() {
            return Some(known);
        }
        let template = request.extensions().get::<MatchedPath>()?.as_str();
        Some(self.known.get_or_init(|| {
            let RouteLayer { observer, policies } = &self.layer;
            let described = policies.of(template).iter().map(|(method, policy)| {
                (method.clone(), observer.route(template, policy.traits().clone()), policy.clone())
            });
            Known { plain: observer.route(template, Default::default()), described: described.collect() }
        }))
    }
}

impl Known {
    fn of(&self, method: &Method) -> (&Arc<RouteStats>, Option<&Policy>) {
        let exact = self.described.iter().find(|(known, ..)| known == method);
        // axum answers HEAD by the route of GET.
        let described = match exact {
            None if *method == Method::HEAD => self.described.iter().find(|(known, ..)| *known == Method::GET),
            exact => exact,
        };
        described.map_or((&self.plain, None), |(_, stats, policy)| (stats, Some(policy)))
    }
}

impl<S> Service<Request<Body>> for Route<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let verdict = RequestContext::with_current(|context| {
            let Some(context) = context else { return Verdict::Serve };
            let Some(known) = self.place.known(&request) else { return Verdict::Serve };
            let (stats, policy) = known.of(request.method());
            let _ = context.0.route.set(stats.clone());
            policy.map_or(Verdict::Serve, |policy| policy.judge(context, &request))
        });
        let state = match verdict {
            Verdict::Serve => State::Served { inner: self.inner.call(request) },
            Verdict::Limit(limit) => {
                let rpc = protocol() != Protocol::Http;
                let (parts, body) = request.into_parts();
                let (body, tripped) = limited(body, limit, rpc);
                State::Limited { inner: self.inner.call(Request::from_parts(parts, body)), limit, tripped }
            }
            refused => State::Refused { refusal: Some(Box::new(refuse(&refused, &request))) },
        };
        ResponseFuture { state }
    }
}

/// What a caller is told to wait for room. Chosen: nobody knows when one of those inside ends, so the shortest wait that the
/// header `Retry-After` can tell.
const ROOM_AGAIN: Duration = Duration::from_secs(1);

fn protocol() -> Protocol {
    RequestContext::with_current(|context| context.map_or(Protocol::Http, RequestContext::protocol))
}

#[cold]
fn refuse(verdict: &Verdict, request: &Request<Body>) -> Response<Body> {
    match verdict {
        Verdict::NotAcceptable(media) => {
            let found = request.headers().get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
            let found = found.collect::<Vec<_>>().join(", ");
            let found = clipped(&found);
            let problem = Problem::new(StatusCode::NOT_ACCEPTABLE, Cause::InvalidRequest.as_str())
                .title(Cause::InvalidRequest.title())
                .detail(format!("found accept: {found}, expected a range that admits {media}"));
            reject_with(problem, Cause::InvalidRequest, protocol())
        }
        Verdict::TooLarge(limit) => too_large(*limit),
        Verdict::Full(limit) => {
            let detail = format!("{limit} requests of this kind are being served, and no more at once");
            let problem = Problem::from(Cause::BulkheadFull).detail(detail).retry_after(ROOM_AGAIN);
            reject_with(problem, Cause::BulkheadFull, protocol())
        }
        // Not refusals.
        Verdict::Serve | Verdict::Limit(_) => reject(Cause::Internal, protocol()),
    }
}

#[cold]
fn too_large(limit: u64) -> Response<Body> {
    let detail = format!("the body is larger than the {} that this route takes", ByteSize(limit));
    reject_with(Problem::from(Cause::PayloadTooLarge).detail(detail), Cause::PayloadTooLarge, protocol())
}

pin_project! {
    /// The response, or the refusal.
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        // The handler's own future.
        Served {
            #[pin]
            inner: F,
        },
        // The same, reading a body that may be cut off.
        Limited {
            #[pin]
            inner: F,
            limit: u64,
            tripped: Tripped,
        },
        // The handler is not asked.
        Refused {
            refusal: Option<Box<Response<Body>>>,
        },
    }
}

impl<F> std::fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl<F> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Served { inner } => inner.poll(cx),
            StateProjection::Limited { inner, limit, tripped } => {
                let Ok(response) = ready!(inner.poll(cx));
                // What reads the body tells of the cut in words of its own: axum's extractors in plain text, tonic as a
                // bare status. A handler that was content with what it had read keeps its answer.
                let replaced = tripped.is_set() && is_failure(&response) && !tells_of_size(&response);
                Poll::Ready(Ok(if replaced { too_large(*limit) } else { response }))
            }
            StateProjection::Refused { refusal } => match refusal.take() {
                Some(refusal) => Poll::Ready(Ok(*refusal)),
                // Polled after it was ready, which the contract of Future forbids.
                None => Poll::Pending,
            },
        }
    }
}

fn is_failure(response: &Response<Body>) -> bool {
    let status = response.status();
    status.is_client_error()
        || status.is_server_error()
        || response.headers().get("grpc-status").is_some_and(|code| code != "0")
}

fn tells_of_size(response: &Response<Body>) -> bool {
    response.extensions().get() == Some(&Refusal(Cause::PayloadTooLarge))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_long_accept_is_not_quoted_whole() {
        let mut request = Request::new(Body::empty());
        for _ in 0..10 {
            request.headers_mut().append(ACCEPT, http::HeaderValue::from_static("text/plain"));
            request.headers_mut().append(ACCEPT, "x/y,".repeat(1000).parse().expect("a header"));
        }
        let answer = refuse(&Verdict::NotAcceptable("application/json"), &request);
        assert_eq!(answer.status(), StatusCode::NOT_ACCEPTABLE);
        let body = axum::body::to_bytes(answer.into_body(), 1000).await.expect("a short body");
        let body = String::from_utf8_lossy(&body).into_owned();
        assert!(body.contains("found accept: text/plain") && body.contains("admits application/json"), "{body}");
    }
}
