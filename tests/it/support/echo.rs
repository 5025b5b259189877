//! A gRPC service without generated code: `test.v1.Echo`, with a unary method and one that streams.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use http::uri::PathAndQuery;
use hyper::{
    body::Incoming,
    client::conn::http2::{SendRequest, handshake},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, sync::mpsc};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    client::Grpc as GrpcClient,
    codegen::{Service, StdError, tokio_stream::Stream},
    server::{Grpc, NamedService, ServerStreamingService, UnaryService},
};
use tonic_prost::ProstCodec;

use super::{
    raw::PATIENCE,
    witness::{AtWork, Witness},
};

#[derive(Clone, PartialEq, prost::Message)]
pub struct Word {
    #[prost(string, tag = "1")]
    pub text: String,
}

pub fn word(text: impl Into<String>) -> Word {
    Word { text: text.into() }
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the servers that tonic generates answer for a method that they do not have.
pub fn no_such_method() -> http::Response<Body> {
    let mut answer = http::Response::new(Body::default());
    answer.headers_mut().insert("grpc-status", http::HeaderValue::from_static("12"));
    answer.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
    answer
}

/// Answers what it is told: `unimplemented` fails so, `hang` waits for ever, `panic` panics, `remaining` says how many milliseconds are left, and
/// `not_found` is a problem; all else comes back.
#[derive(Clone)]
pub struct Echo(pub Witness);

impl NamedService for Echo {
    const NAME: &'static str = "test.v1.Echo";
}

impl UnaryService<Word> for Echo {
    type Response = Word;
    type Future = Boxed<Result<Response<Word>, Status>>;

    fn call(&mut self, request: Request<Word>) -> Self::Future {
        let witness = self.0.clone();
        Box::pin(async move {
            let _at_work = witness.begin();
            let peer = request.remote_addr();
            let word = request.into_inner();
            match word.text.as_str() {
                "peer" => {
                    Ok(Response::new(Word { text: peer.map_or("none".to_owned(), |peer| peer.ip().to_string()) }))
                }
                "hang" => std::future::pending().await,
                "panic" => panic!("a secret of the handler"),
                "unimplemented" => Err(Status::unimplemented("")),
                "remaining" => {
                    let remaining = chassis::RequestContext::current().and_then(|context| context.remaining());
                    let text = remaining.map_or("none".to_owned(), |left| left.as_millis().to_string());
                    Ok(Response::new(Word { text }))
                }
                _ => Ok(Response::new(word)),
            }
        })
    }
}

/// Words that are sent one by one, with a witness of its end.
pub struct Words {
    words: mpsc::Receiver<Result<Word, Status>>,
    _at_work: AtWork,
    _sender: mpsc::Sender<Result<Word, Status>>,
}

impl Stream for Words {
    type Item = Result<Word, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.words.poll_recv(cx)
    }
}

#[derive(Clone)]
struct Repeat(Witness);

impl ServerStreamingService<Word> for Repeat {
    type Response = Word;
    type ResponseStream = Words;
    type Future = Boxed<Result<Response<Words>, Status>>;

    /// Says the word twice and then keeps the stream open.
    fn call(&mut self, request: Request<Word>) -> Self::Future {
        let at_work = self.0.begin();
        Box::pin(async move {
            let (sender, words) = mpsc::channel(2);
            let word = request.into_inner();
            for _ in 0..2 {
                let _ = sender.send(Ok(word.clone())).await;
            }
            Ok(Response::new(Words { words, _at_work: at_work, _sender: sender }))
        })
    }
}

impl<B> Service<http::Request<B>> for Echo
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Boxed<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::default());
            Ok(match request.uri().path() {
                "/test.v1.Echo/Say" => grpc.unary(echo, request).await,
                "/test.v1.Echo/Repeat" => grpc.server_streaming(Repeat(echo.0), request).await,
                _ => no_such_method(),
            })
        })
    }
}

/// HTTP/2 without tonic's own channel, which would keep the deadline before the service can.
#[derive(Clone)]
struct Http2(SendRequest<Body>);

impl Service<http::Request<Body>> for Http2 {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Boxed<hyper::Result<Self::Response>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// A client of that service, or of one that does not exist.
#[derive(Clone)]
pub struct Client(GrpcClient<Http2>);

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let socket = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (sender, connection) = handshake(TokioExecutor::new(), socket).await.unwrap();
        tokio::spawn(connection);
        Self(GrpcClient::with_origin(Http2(sender), format!("http://{address}").parse().unwrap()))
    }

    /// A unary call; `timeout` goes out as `grpc-timeout`.
    pub async fn call(&mut self, path: &'static str, text: &str, timeout: &str) -> Result<Response<Word>, Status> {
        self.0.ready().await.unwrap();
        let path = PathAndQuery::from_static(path);
        let call = self.0.unary(request(text, timeout), path, ProstCodec::<Word, Word>::default());
        tokio::time::timeout(PATIENCE, call).await.expect("an answer")
    }

    pub async fn say(&mut self, text: &str, timeout: &str) -> Result<Response<Word>, Status> {
        self.call("/test.v1.Echo/Say", text, timeout).await
    }

    pub async fn repeat(&mut self, text: &str, timeout: &str) -> Result<Streaming<Word>, Status> {
        self.0.ready().await.unwrap();
        let path = PathAndQuery::from_static("/test.v1.Echo/Repeat");
        let codec = ProstCodec::<Word, Word>::default();
        Ok(self.0.server_streaming(request(text, timeout), path, codec).await?.into_inner())
    }
}

fn request(text: &str, timeout: &str) -> Request<Word> {
    let mut request = Request::new(word(text));
    if !timeout.is_empty() {
        request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
    }
    request
}
