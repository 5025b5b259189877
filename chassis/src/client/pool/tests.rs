//! Pools against servers on loopback.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use bytes::Bytes;
use hyper::body::Incoming;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// A server of HTTP/2 that answers with what it was called.
async fn server() -> (std::net::SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = service_fn(|request: Request<Incoming>| async move {
                let called = request.uri().authority().map(ToString::to_string).unwrap_or_default();
                Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from(called))))
            });
            let connection = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer);
            connections.spawn(async move { drop(connection.await) });
        }
    });
    (address, tasks)
}

/// Carries connections to a server; once told so, it swallows what comes over those that were there before.
async fn proxy(to: std::net::SocketAddr) -> (std::net::SocketAddr, watch::Sender<bool>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (lose, losing) = watch::channel(false);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let far = TcpStream::connect(to).await.unwrap();
            let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
            let loses = !*losing.borrow();
            for (mut from, mut into) in [(from_near, to_far), (from_far, to_near)] {
                let losing = losing.clone();
                connections.spawn(async move {
                    let mut bytes = [0; 4096];
                    while let Ok(length @ 1..) = from.read(&mut bytes).await {
                        if loses && *losing.borrow() {
                            continue;
                        }
                        if into.write_all(&bytes[..length]).await.is_err() {
                            return;
                        }
                    }
                    // Not a word, also when the one end is gone.
                    std::future::pending::<()>().await;
                });
            }
        }
    });
    (address, lose, tasks)
}

async fn call(pool: &Pool, authority: &str) -> Result<Bytes, BoxError> {
    let request = Request::get(format!("http://{authority}/")).body(RequestBody::default()).unwrap();
    let answer = tokio::time::timeout(PATIENCE, pool.clone().call(request)).await.expect("it comes to an end")?;
    Ok(answer.into_body().collect().await?.to_bytes())
}

#[tokio::test]
async fn a_connection_that_loses_everything_is_given_up_and_the_next_call_has_another() {
    let (server, _serving) = server().await;
    let (proxy, lose, _carrying) = proxy(server).await;
    let short = crate::config::Duration::from_millis(100);
    let config = PoolConfig { keep_alive_interval: short, keep_alive_timeout: short, ..PoolConfig::default() };
    let pools = Pools::new(&config, HttpProtocol::Http2, &TlsConfig::default(), None).unwrap();
    let endpoint = Endpoint::at(&proxy.ip().to_string(), proxy.port());
    let pool = pools.pool(&endpoint);
    call(&pool, &endpoint.authority()).await.unwrap();
    lose.send_replace(true);
    call(&pool, &endpoint.authority()).await.expect_err("nothing comes back");
    call(&pool, &endpoint.authority()).await.expect("a new connection");
}

#[tokio::test]
async fn an_endpoint_is_called_by_the_name_that_was_looked_up_and_else_by_its_own_host() {
    let (server, _serving) = server().await;
    let endpoint = Endpoint::at(&server.ip().to_string(), server.port());
    for (name, expected) in [(Some("inventory.test"), "inventory.test"), (None, "127.0.0.1")] {
        let pools = Pools::new(&PoolConfig::default(), HttpProtocol::Http2, &TlsConfig::default(), name).unwrap();
        let called = call(&pools.pool(&endpoint), &endpoint.authority()).await.unwrap();
        assert_eq!(called, format!("{expected}:{}", server.port()));
    }
}
