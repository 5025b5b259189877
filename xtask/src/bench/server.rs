//! A server under test: started on the server's core, watched through /proc, ended by its own process id.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::cores::Cores;
use crate::docs::without_settings;
use crate::{Result, shell};

/// How long a stopped server may drain before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// A program to measure.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) name: String,
    pub(super) binary: PathBuf,
    pub(super) environment: Vec<(&'static str, String)>,
    /// The request that answers 200 from the moment the service is ready.
    pub(super) ready_path: &'static str,
}

impl Program {
    /// Builds the package alone, so that no other package's features leak into it.
    pub(super) fn build(name: &str, environment: Vec<(&'static str, String)>) -> Result<Self> {
        shell::run(&mut shell::cargo(["build", "--release", "--locked", "--package", name]))?;
        let ready_path = if name == "bare-axum" { "/orders/7" } else { "/readyz" };
        let binary = shell::target()?.join("release").join(name);
        Ok(Self { name: name.to_owned(), binary, environment, ready_path })
    }
}

/// Ended when dropped.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    ready_file: PathBuf,
    pub(super) address: SocketAddr,
    /// From the start of the process to the first 200.
    pub(super) ready_after: Duration,
}

impl Server {
    /// `wrapper` stands before the program on the command line: valgrind and its options, or nothing.
    pub(super) fn start(program: &Program, wrapper: &[String], cores: &Cores, limit: Duration) -> Result<Self> {
        let ready_file =
            std::env::temp_dir().join(format!("xtask-bench-{}-{}.ready", std::process::id(), program.name));
        let _ = fs::remove_file(&ready_file);
        let binary = program.binary.clone().into_os_string();
        let mut line = wrapper.iter().map(Into::into).chain([binary]);
        let mut command = Command::new(line.next().ok_or("nothing to start")?);
        without_settings(&mut command)
            .current_dir(shell::root())
            .args(line)
            .arg("--ready-file")
            .arg(&ready_file)
            .envs(program.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let started = Instant::now();
        let child = cores.on_server_core(|| command.spawn())?;
        let mut server = Self { child, ready_file, address: ([127, 0, 0, 1], 0).into(), ready_after: limit };
        server.address = server.wait_for("ready file", started, limit, |server| read_address(&server.ready_file))?;
        server.wait_for("first 200", started, limit, |server| {
            status(server.address, program.ready_path).filter(|status| *status == 200)
        })?;
        server.ready_after = started.elapsed();
        Ok(server)
    }

    #[allow(clippy::disallowed_methods, reason = "a process outside cannot be awaited; a thread of xtask may sleep")]
    fn wait_for<T>(
        &mut self,
        what: &str,
        started: Instant,
        limit: Duration,
        probe: impl Fn(&Self) -> Option<T>,
    ) -> Result<T> {
        loop {
            if let Some(found) = probe(self) {
                return Ok(found);
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("the server ended with {status} before its {what}").into());
            }
            if started.elapsed() > limit {
                return Err(format!("no {what} within {} s", limit.as_secs()).into());
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    /// User and system time of all its threads so far.
    pub(super) fn cpu_time(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name in brackets may hold spaces; utime and stime are fields 14 and 15 of the line.
        let (_, fields) = stat.rsplit_once(')').ok_or("cannot read /proc/PID/stat")?;
        let ticks: u64 =
            fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<std::result::Result<_, _>>()?;
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        Ok(Duration::from_millis(ticks * 1000 / per_second))
    }

    /// Resident memory in bytes.
    pub(super) fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS in /proc/PID/status")?;
        let kib: u64 = line.split_whitespace().next().ok_or("no number behind VmRSS")?.parse()?;
        Ok(kib * 1024)
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end and waits.
    #[allow(clippy::disallowed_methods, reason = "a process outside cannot be awaited; a thread of xtask may sleep")]
    pub(super) fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).ok_or("the server has no process id")?;
        kill_process(pid, Signal::TERM)?;
        let asked = Instant::now();
        while asked.elapsed() < STOP_LIMIT {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(format!("the server did not stop within {} s of SIGTERM", STOP_LIMIT.as_secs()).into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.ready_file);
    }
}

fn read_address(ready_file: &Path) -> Option<SocketAddr> {
    shell::ready_address(&fs::read_to_string(ready_file).ok()?, "http")
}

fn status(address: SocketAddr, path: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").as_bytes()).ok()?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    std::str::from_utf8(&head[9..]).ok()?.parse().ok()
}
