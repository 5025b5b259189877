//! HTTP/1.1 by hand: what no proper client would send, and answers as they come.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

pub use super::pace::PATIENCE;

pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

/// A connection on which bytes are sent as they are written here.
pub struct Raw {
    socket: Box<dyn Socket>,
    read: Vec<u8>,
}

/// An answer, its header names in lower case.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|header| header.0 == name).map_or("", |header| &header.1)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Checks that this is a problem with this code, which names the trace that the header names.
    pub fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let json = self.json();
        assert_eq!((&json["code"], &json["status"]), (&code.into(), &status.into()), "{json}");
        assert_eq!(json["trace_id"], self.header("x-trace-id"), "{json}");
        assert_eq!(self.header("x-trace-id").len(), 32);
    }
}

impl Raw {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::on(TcpStream::connect(address).await.unwrap())
    }

    pub fn on(socket: impl Socket + 'static) -> Self {
        Self { socket: Box::new(socket), read: Vec::new() }
    }

    /// Sends, whether or not somebody is there to read.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        timeout(PATIENCE, self.socket.write_all(bytes.as_ref())).await.expect("the other side reads").is_ok()
    }

    /// GET on a kept-alive connection.
    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
        self.answer().await.expect("an answer")
    }

    async fn more(&mut self) -> bool {
        let read = timeout(PATIENCE, self.socket.read_buf(&mut self.read)).await.expect("bytes or an end");
        matches!(read, Ok(count) if count > 0)
    }

    /// The next answer; none when the connection ends before it is whole.
    pub async fn answer(&mut self) -> Option<Answer> {
        self.answer_to(true).await
    }

    /// The next answer's status line and headers; none when the connection ends before.
    pub async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                return Some(String::from_utf8(self.read.drain(..at + 4).collect()).unwrap());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// The next answer, to HEAD when it has no body.
    pub async fn answer_to(&mut self, with_body: bool) -> Option<Answer> {
        let head = self.head().await?;
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        if !with_body || status == 204 || status < 200 {
            return Some(answer);
        }
        if answer.header("transfer-encoding") == "chunked" {
            answer.body = self.chunked().await?;
        } else {
            let length: usize = answer.header("content-length").parse().unwrap_or(0);
            while self.read.len() < length {
                if !self.more().await {
                    return None;
                }
            }
            answer.body = self.read.drain(..length).collect();
        }
        Some(answer)
    }

    /// A chunked body to its end; none when it breaks off.
    pub async fn chunked(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let chunk = self.chunk().await?;
            if chunk.is_empty() {
                return Some(body);
            }
            body.extend(chunk);
        }
    }

    /// The next chunk, empty at the end; none when the connection ends.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.read.windows(2).position(|window| window == b"\r\n") {
                let size = std::str::from_utf8(&self.read[..at]).unwrap();
                let size = usize::from_str_radix(size, 16).unwrap();
                if self.read.len() >= at + 4 + size {
                    let chunk = self.read[at + 2..at + 2 + size].to_vec();
                    self.read.drain(..at + 4 + size);
                    return Some(chunk);
                }
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Waits until the other side ends the connection; everything it still said.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.read)
    }

    /// Whether nothing at all comes within a short while.
    pub async fn is_silent(&mut self) -> bool {
        self.is_silent_for(Duration::from_millis(150)).await
    }

    /// Whether nothing at all comes within this time.
    pub async fn is_silent_for(&mut self, time: Duration) -> bool {
        self.read.is_empty() && timeout(time, self.socket.read_buf(&mut self.read)).await.is_err()
    }
}
