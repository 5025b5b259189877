//! HTTP/1.1 by hand: a test of connections must see each byte, each close and each reset.

use std::{io, net::SocketAddr};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::pace::PATIENCE;

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }

    /// A header; empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        let values = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut named = values.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value.trim()).unwrap_or_default()
    }

    /// Whether the server closes the connection behind this answer.
    pub fn closes(&self) -> bool {
        self.header("connection") == "close"
    }
}

/// A connection that is kept.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// # Errors
    /// Refused, when nobody listens any more.
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(1024) })
    }

    pub async fn write(&mut self, bytes: &str) -> io::Result<()> {
        self.stream.write_all(bytes.as_bytes()).await
    }

    pub async fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.write(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await?;
        self.answer().await
    }

    /// Reads one answer, whose body has a `content-length`.
    pub async fn answer(&mut self) -> io::Result<Answer> {
        loop {
            if let Some((answer, length)) = parse(&self.buffer) {
                self.buffer.drain(..length);
                return Ok(answer);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before the answer was whole"));
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Option<(Answer, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut answer = Answer { status: head.split(' ').nth(1)?.parse().ok()?, head, body: String::new() };
    let length = end + answer.header("content-length").parse::<usize>().unwrap_or_default();
    answer.body = String::from_utf8_lossy(bytes.get(end..length)?).into_owned();
    Some((answer, length))
}

/// One GET on a connection of its own.
pub async fn get(address: SocketAddr, path: &str) -> Answer {
    let asked = async { Connection::open(address).await?.get(path).await };
    let answer = timeout(PATIENCE, asked).await.expect("an answer in time");
    answer.unwrap_or_else(|error| panic!("GET {path}: {error}"))
}
