//! An OTLP/HTTP receiver that counts and forgets: export costs the service what it costs in production.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Result;

/// More than an exporter ever sends in one piece.
const BODY_LIMIT: u64 = 64 * 1024 * 1024;

/// Runs on threads of its own until the process ends.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    posts: AtomicU64,
    bytes: AtomicU64,
}

impl Sink {
    pub(super) fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let sink = Self { address: listener.local_addr()?, counts: Arc::default() };
        let counts = Arc::clone(&sink.counts);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counts = Arc::clone(&counts);
                // One thread per exporter, of which a service has one for each signal.
                std::thread::spawn(move || serve(&stream, &counts));
            }
        });
        Ok(sink)
    }

    /// Export requests and their bytes so far.
    pub(super) fn received(&self) -> (u64, u64) {
        (self.counts.posts.load(Ordering::Relaxed), self.counts.bytes.load(Ordering::Relaxed))
    }
}

fn serve(stream: &TcpStream, counts: &Counts) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let (name, value) = line.split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse::<u64>().ok()?.min(BODY_LIMIT);
            }
            if line.trim().is_empty() {
                break;
            }
        }
        std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink()).ok()?;
        counts.posts.fetch_add(1, Ordering::Relaxed);
        counts.bytes.fetch_add(length, Ordering::Relaxed);
        let mut writer = stream;
        writer
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n")
            .ok()?;
    }
}
