//! A DNS server of a test's own, in Python.

use std::{net::SocketAddr, process::Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
    time::timeout,
};

use super::{process::PATIENCE, python};

/// A server on loopback, over UDP and TCP. Dropped, it is killed.
#[derive(Debug)]
pub struct Dns {
    pub address: SocketAddr,
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Dns {
    /// A server with these records, in the words of a master file.
    pub async fn with(zone: &str) -> Self {
        let mut child = python::server("dns.py");
        let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("no Python");
        let stdin = child.stdin.take().expect("piped");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped")).lines();
        let port = timeout(PATIENCE, stdout.next_line()).await.expect("it starts").expect("a line");
        let port = port.expect("no dnslib in this Python; run `cargo xtask test`").parse().expect("a port");
        let mut server = Self { address: SocketAddr::from(([127, 0, 0, 1], port)), child, stdin, stdout };
        server.zone(zone).await;
        server
    }

    /// These records from now on.
    pub async fn zone(&mut self, zone: &str) {
        self.tell(&json!({ "zone": zone })).await;
    }

    /// Gives the questions that were asked so far, when the server has taken this in.
    pub async fn tell(&mut self, what: &Value) -> Vec<String> {
        self.stdin.write_all(format!("{what}\n").as_bytes()).await.expect("it listens");
        let line = timeout(PATIENCE, self.stdout.next_line()).await.expect("it answers").expect("a line");
        serde_json::from_str(&line.expect("a line")).expect("a list")
    }

    pub async fn asked(&mut self) -> Vec<String> {
        self.tell(&json!({ "asked": true })).await
    }

    /// It neither answers nor refuses.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().expect("it runs");
        kill_process(Pid::from_raw(pid.cast_signed()).expect("a pid"), signal).expect("the signal is sent");
    }
}
