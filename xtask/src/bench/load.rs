//! The load generator: one thread, one epoll, closed loop. Each connection has one request under way at any time, and
//! the next one leaves as soon as its answer is complete.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use super::histogram::Histogram;
use crate::Result;

/// Longer than any answer of the benchmark.
const ANSWER_LIMIT: usize = 16 * 1024;
/// A server that is silent for so long has lost a request.
const SILENCE_LIMIT: Duration = Duration::from_secs(5);

/// The bytes of one request; ids wander so that no answer can be kept.
fn request(id: usize) -> Vec<u8> {
    format!("GET /orders/{id} HTTP/1.1\r\nhost: bench\r\n\r\n").into_bytes()
}

struct Connection {
    stream: TcpStream,
    answer: Box<[u8]>,
    filled: usize,
    sent: Instant,
    next: usize,
}

/// Open connections to one server.
pub(super) struct Load {
    connections: Vec<Connection>,
    requests: Vec<Vec<u8>>,
    epoll: std::os::fd::OwnedFd,
}

impl Load {
    pub(super) fn connect(address: SocketAddr, connections: usize) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut open = Vec::with_capacity(connections);
        for index in 0..connections {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(&epoll, &stream, epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)?;
            let answer = vec![0; ANSWER_LIMIT].into_boxed_slice();
            open.push(Connection { stream, answer, filled: 0, sent: Instant::now(), next: index });
        }
        let requests = (1..=100).map(request).collect();
        let mut load = Self { connections: open, requests, epoll };
        for index in 0..connections {
            load.connections[index].send(&load.requests, Instant::now())?;
        }
        Ok(load)
    }

    /// Keeps the loop closed for this time; gives the latency of every answer that came in it.
    pub(super) fn drive(&mut self, time: Duration) -> Result<Histogram> {
        let mut histogram = Histogram::default();
        let mut events = Vec::with_capacity(self.connections.len());
        let silence = Timespec { tv_sec: i64::try_from(SILENCE_LIMIT.as_secs())?, tv_nsec: 0 };
        let end = Instant::now() + time;
        loop {
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&silence))?;
            if events.is_empty() {
                return Err(format!("the server was silent for {} s", SILENCE_LIMIT.as_secs()).into());
            }
            for event in events.drain(..) {
                let connection = &mut self.connections[usize::try_from(event.data.u64())?];
                if connection.receive()? {
                    let now = Instant::now();
                    histogram.record(now.duration_since(connection.sent));
                    connection.send(&self.requests, now)?;
                }
            }
            if Instant::now() >= end {
                return Ok(histogram);
            }
        }
    }
}

impl Connection {
    fn send(&mut self, requests: &[Vec<u8>], now: Instant) -> Result<()> {
        let request = &requests[self.next % requests.len()];
        self.next += 1;
        self.sent = now;
        // A request is far smaller than an empty socket buffer, so it goes out whole.
        self.stream.write_all(request)?;
        Ok(())
    }

    /// Reads what is there; true when the answer is complete.
    fn receive(&mut self) -> Result<bool> {
        match self.stream.read(&mut self.answer[self.filled..]) {
            Ok(0) => return Err("the server closed a keep-alive connection".into()),
            Ok(read) => self.filled += read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let complete = is_complete(&self.answer[..self.filled])?;
        if complete {
            self.filled = 0;
        }
        Ok(complete)
    }
}

/// One connection, one request after the other: for counting instructions.
pub(super) fn sequential(address: SocketAddr, count: usize) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE_LIMIT * 6))?;
    let mut answer = vec![0; ANSWER_LIMIT];
    for index in 0..count {
        stream.write_all(&request(index % 100 + 1))?;
        let mut filled = 0;
        while !is_complete(&answer[..filled])? {
            match stream.read(&mut answer[filled..])? {
                0 => return Err("the server closed a keep-alive connection".into()),
                read => filled += read,
            }
        }
    }
    Ok(())
}

/// Whether this is one whole answer; anything but 200 with a content-length is an error.
fn is_complete(answer: &[u8]) -> Result<bool> {
    let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if answer.len() == ANSWER_LIMIT { Err("an answer has no end of its head".into()) } else { Ok(false) };
    };
    let (head, body) = (&answer[..head], answer.len() - head - 4);
    if head.get(9..12) != Some(b"200") {
        let line = String::from_utf8_lossy(head.split(|byte| *byte == b'\r').next().unwrap_or_default());
        return Err(format!("expected 200, the server answered `{line}`").into());
    }
    let length = content_length(head).ok_or("an answer has no content-length")?;
    if body > length {
        return Err("an answer is longer than its content-length".into());
    }
    Ok(body == length)
}

fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let line = head.split(|byte| *byte == b'\n').find(|line| {
        line.len() > NAME.len() && line[0].eq_ignore_ascii_case(&b'c') && line[..NAME.len()].eq_ignore_ascii_case(NAME)
    })?;
    std::str::from_utf8(&line[NAME.len()..]).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::is_complete;

    #[test]
    fn answer_is_complete_with_its_last_byte() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nx: y\r\n\r\nabc";
        for end in 0..answer.len() {
            assert!(!is_complete(&answer[..end]).expect("no mistake in it"), "{end}");
        }
        assert!(is_complete(answer).expect("no mistake in it"));
    }

    #[test]
    fn other_status_missing_length_and_extra_bytes_are_errors() {
        assert!(is_complete(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").is_err());
        assert!(is_complete(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(is_complete(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab").is_err());
    }
}
