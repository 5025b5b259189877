//! HTTP/2 over one connection, and gRPC messages by hand.

use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, time::timeout};
use tokio_util::task::AbortOnDropHandle;

use super::pace::PATIENCE;

/// A connection that many requests share.
#[derive(Debug, Clone)]
pub struct Connection {
    address: SocketAddr,
    requests: http2::SendRequest<Full<Bytes>>,
    _driver: std::sync::Arc<AbortOnDropHandle<()>>,
}

impl Connection {
    /// # Errors
    /// Nobody listens.
    pub async fn open(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (requests, connection) = handshake.map_err(std::io::Error::other)?;
        let driver = tokio::spawn(async move {
            // How it ends is what the requests say.
            let _ = connection.await;
        });
        Ok(Self { address, requests, _driver: std::sync::Arc::new(AbortOnDropHandle::new(driver)) })
    }

    /// GET; gives the status and the whole body.
    pub async fn get(&mut self, path: &str) -> hyper::Result<(u16, Bytes)> {
        let request = Request::get(format!("http://{}{path}", self.address)).body(Full::default()).expect("a request");
        let response = self.requests.send_request(request).await?;
        let status = response.status().as_u16();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }

    /// Calls a gRPC method with one message, which is already encoded.
    pub async fn call(&mut self, method: &str, message: &[u8], headers: HeaderMap) -> hyper::Result<Messages> {
        let mut frame = vec![0];
        frame.extend(u32::try_from(message.len()).expect("a small message").to_be_bytes());
        frame.extend(message);
        let mut request = Request::post(format!("http://{}{method}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(frame.into()))
            .expect("a request");
        request.headers_mut().extend(headers);
        Ok(Messages { response: self.requests.send_request(request).await?, buffer: BytesMut::new() })
    }
}

/// The messages of one gRPC answer.
#[derive(Debug)]
pub struct Messages {
    response: Response<Incoming>,
    buffer: BytesMut,
}

/// What comes next in a gRPC answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A message, encoded.
    Message(Bytes),
    /// The end, with the value of `grpc-status`.
    End(String),
}

impl Messages {
    pub async fn next(&mut self) -> Next {
        loop {
            if self.buffer.len() >= 5 {
                let length = u32::from_be_bytes(self.buffer[1..5].try_into().expect("four bytes")) as usize;
                if self.buffer.len() >= 5 + length {
                    self.buffer.advance(5);
                    return Next::Message(self.buffer.split_to(length).freeze());
                }
            }
            let frame = timeout(PATIENCE, self.response.body_mut().frame()).await.expect("the stream goes on");
            let status = |headers: &HeaderMap| headers["grpc-status"].to_str().expect("text").to_owned();
            match frame.map(|frame| frame.expect("the stream is whole").into_data()) {
                Some(Ok(data)) => self.buffer.extend(data),
                Some(Err(frame)) => return Next::End(status(frame.trailers_ref().expect("trailers"))),
                None => return Next::End(status(self.response.headers())),
            }
        }
    }
}
