//! A DNS server of a test's own, in Python.

use std::{net::SocketAddr, process::Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
    time::timeout,
};

use super::{
    account::{Heard, standing},
    process::PATIENCE,
    python,
};

/// A server on loopback, over UDP and TCP. Dropped, it is killed.
#[derive(Debug)]
pub struct Dns {
    pub address: SocketAddr,
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: Heard,
}

impl Dns {
    /// A server with these records, in the words of a master file.
    pub async fn with(zone: &str) -> Self {
        let mut child = python::server("dns.py");
        let child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = child.spawn().unwrap_or_else(|error| panic!("Python does not start: {error}"));
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped")).lines();
        let stderr = Heard::of(child.stderr.take().expect("piped"));
        let mut server = Self { address: SocketAddr::from(([127, 0, 0, 1], 0)), child, stdin, stdout, stderr };
        let port = server.line().await;
        server.address.set_port(port.parse().unwrap_or_else(|error| panic!("no port: {port:?}: {error}")));
        server.zone(zone).await;
        server
    }

    /// Its next line.
    async fn line(&mut self) -> String {
        let why = match timeout(PATIENCE, self.stdout.next_line()).await {
            Ok(Ok(Some(line))) => return line,
            Ok(Ok(None)) => "it said nothing more".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no line within {PATIENCE:?}"),
        };
        let stderr = self.stderr.last_words().await;
        let hint = if stderr.contains("No module named") { "; run `cargo xtask test`, which brings it" } else { "" };
        panic!("the DNS server: {why}, {}{hint}\non standard error:\n{stderr}", standing(self.child.id()))
    }

    /// These records from now on.
    pub async fn zone(&mut self, zone: &str) {
        self.tell(&json!({ "zone": zone })).await;
    }

    /// Gives the questions that were asked so far, when the server has taken this in.
    pub async fn tell(&mut self, what: &Value) -> Vec<String> {
        // When it does not listen any more, the missing answer tells why.
        let _ = self.stdin.write_all(format!("{what}\n").as_bytes()).await;
        let line = self.line().await;
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("expected a list, found {line:?}: {error}"))
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
