//! Routes that are described by hand, and an rpc beside them, for what their policies do.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body, extract::State, routing::get, routing::post};
use bytes::Bytes;
use chassis::{
    Problem,
    service::{
        AnswerInfo, AnswerKind, Arguments, Content, Deprecation, GrpcRoutes, Rejection, RouteInfo, RoutePolicy, Routes,
        TypeInfo, json, shape,
    },
};
use http::{Method, StatusCode};
use http_body::Frame;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::{
    echo::Word,
    witness::{AtWork, Witness},
};

/// Since when `GET /old` is deprecated, and when it will be gone.
pub const DEPRECATED: &str = "@1688169599";
pub const SUNSET: &str = "Sun, 30 Jun 2097 23:59:59 GMT";

/// What tonic would generate for a service with these methods.
trait ShopServer {
    fn any<'a>(
        &'a self,
        request: Request<Word>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Word>, Status>> + Send + 'a>>;
}

/// Handlers that wait until they are let go.
#[derive(Clone)]
pub struct Shop {
    pub witness: Witness,
    pub gate: Arc<Semaphore>,
}

impl Shop {
    pub fn new() -> Self {
        Self { witness: Witness::new(), gate: Arc::new(Semaphore::new(0)) }
    }

    /// Lets one handler, or stream, come to its end.
    pub fn let_go(&self) {
        self.gate.add_permits(1);
    }

    async fn wait(&self) {
        let _at_work = self.witness.begin();
        self.gate.acquire().await.unwrap().forget();
    }

    /// The routes of the shop, each with its policy.
    pub fn routes(&self) -> Routes {
        let policy = RoutePolicy::new;
        let deprecated = policy().deprecated(Deprecation::since(1_688_169_599).sunset(4_023_475_199));
        let plain = |method, path, handler, policy| owned(RouteInfo::new(method, path, handler).policy(policy));
        let infos = vec![
            plain(Method::GET, "/busy", "busy", policy().concurrency(1)),
            plain(Method::GET, "/stream", "stream", policy().concurrency(1)),
            plain(Method::POST, "/text", "text", policy().body_limit(8)),
            plain(Method::POST, "/json", "json", policy().body_limit(8)),
            plain(Method::GET, "/old/{what}", "old", deprecated.timeout(Duration::from_millis(100))),
            plain(Method::POST, "/fail/twice/{status}", "fail_twice", policy().idempotent()),
            answers(plain(Method::GET, "/accept/json", "accept", policy()), Content::Json),
            answers(plain(Method::GET, "/accept/events", "accept", policy()), Content::Events),
            answers(plain(Method::GET, "/accept/lines", "accept", policy()), Content::JsonLines),
            answers(plain(Method::GET, "/accept/other", "accept", policy()), Content::Other),
        ];
        Routes { router: self.router(), infos, grpc: Some(self.rpcs()) }
    }

    fn router(&self) -> Router {
        Router::new()
            .route("/busy", get(busy))
            .route("/stream", get(|State(shop): State<Shop>| async { Body::new(Held::of(shop)) }))
            .route("/text", post(|State(shop): State<Shop>, body: String| async move { shop.heard(&body) }))
            .route("/json", post(json_body))
            .route("/old/{what}", get(old).post(|| async { "new" }))
            .route("/new/hang", post(std::future::pending::<&'static str>))
            .route("/fail/{status}", get(fail).post(fail).put(fail))
            .route("/fail/twice/{status}", post(fail))
            .route("/accept/json", get(accepted))
            .route("/accept/events", get(accepted))
            .route("/accept/lines", get(accepted))
            .route("/accept/other", get(accepted))
            .with_state(self.clone())
    }

    fn rpcs(&self) -> GrpcRoutes {
        let policy = RoutePolicy::new;
        let rpc = |method, handler, policy| owned(RouteInfo::rpc("test.v1.Shop", method, handler).policy(policy));
        let types = shape(<dyn ShopServer>::any);
        let shop = self.clone();
        let busy = move |word: Word| {
            let shop = shop.clone();
            async move {
                shop.wait().await;
                Ok(word)
            }
        };
        let fails = |_: Word| async { Err(Problem::unavailable("store_down")) };
        let echoes = |word: Word| async { Ok(word) };
        let hangs = |_: Word| std::future::pending::<Result<Word, Problem>>();
        GrpcRoutes::new("test.v1.Shop")
            .unary(rpc("Busy", "busy", policy().concurrency(1)), types, busy)
            .unary(rpc("Fail", "rpc_fails", policy()), types, fails)
            .unary(rpc("FailTwice", "rpc_fails_twice", policy().idempotent()), types, fails)
            .unary(rpc("Small", "small", policy().body_limit(64)), types, echoes)
            .unary(rpc("Slow", "slow", policy().timeout(Duration::from_millis(50))), types, hangs)
    }

    fn heard(&self, body: &str) -> String {
        let _at_work = self.witness.begin();
        body.to_owned()
    }
}

/// The route of the type `shop::Shop`.
fn owned(mut info: RouteInfo) -> RouteInfo {
    info.service = "shop::Shop";
    info
}

fn answers(info: RouteInfo, content: Content) -> RouteInfo {
    info.answer(AnswerInfo::new(AnswerKind::new(StatusCode::OK, content), TypeInfo::unknown::<()>()))
}

async fn busy(State(shop): State<Shop>) -> &'static str {
    shop.wait().await;
    "served"
}

async fn json_body(arguments: Arguments) -> Result<axum::response::Response, Rejection> {
    let value: serde_json::Value = arguments.json().await?;
    Ok(json(StatusCode::OK, &value))
}

async fn old(arguments: Arguments) -> Result<axum::response::Response, Rejection> {
    match arguments.path::<String>("what")?.as_str() {
        "missing" => Err(Problem::not_found("unknown_thing").into()),
        "hang" => std::future::pending().await,
        "panic" => panic!("a secret of the handler"),
        what => Ok(json(StatusCode::OK, what)),
    }
}

async fn fail(arguments: Arguments) -> Result<(), Rejection> {
    let status = arguments.path::<u16>("status")?;
    Err(Problem::new(StatusCode::from_u16(status).unwrap(), "told_to").into())
}

async fn accepted(State(shop): State<Shop>) -> &'static str {
    let _at_work = shop.witness.begin();
    "accepted"
}

/// A body that has one piece at once, and its end when it is let go.
struct Held {
    gate: Pin<Box<dyn Future<Output = ()> + Send>>,
    piece: Option<Bytes>,
    ended: bool,
    _at_work: AtWork,
}

impl Held {
    fn of(shop: Shop) -> Self {
        let at_work = shop.witness.begin();
        let gate = Box::pin(async move { shop.gate.acquire().await.unwrap().forget() });
        Self { gate, piece: Some(Bytes::from_static(b"piece")), ended: false, _at_work: at_work }
    }
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(piece) = self.piece.take() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if !self.ended {
            std::task::ready!(self.gate.as_mut().poll(cx));
            self.ended = true;
        }
        Poll::Ready(None)
    }
}
