//! One generated project: what its owner would type, and a look at what it serves.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::generator::files;
use crate::docs::without_settings;
use crate::{Result, shell};

/// How long to wait for what should come at once. Only a hang takes as long: it is far above what a machine needs that builds
/// beside.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) struct Project {
    pub(super) folder: PathBuf,
    pub(super) name: String,
    template: &'static str,
}

impl Project {
    pub(super) fn new(folder: PathBuf, name: &str, template: &'static str) -> Self {
        Self { folder, name: name.to_owned(), template }
    }

    /// A cargo command in the project. All projects share their output.
    pub(super) fn cargo(&self, arguments: &[&str]) -> Result<Command> {
        let mut cargo = shell::cargo(arguments);
        // The workspace's own output: most of the dependencies are built there already.
        cargo.current_dir(&self.folder).env("CARGO_TARGET_DIR", shell::target()?);
        without_settings(&mut cargo);
        Ok(cargo)
    }

    /// Nothing is left of the template.
    pub(super) fn rendered(&self) -> Result<()> {
        for file in files(&self.folder)? {
            let path = file.strip_prefix(&self.folder)?.display().to_string();
            let github = path.starts_with(".github/");
            let text = fs::read_to_string(&file)?;
            if !github && ["{{", "{%"].iter().any(|mark| text.contains(mark)) {
                return Err(format!("{path} of {} has a placeholder left", self.name).into());
            }
            if path.ends_with(".liquid") || path.ends_with(".rhai") || path == "cargo-generate.toml" {
                return Err(format!("{path} is the template's, and is in {}", self.name).into());
            }
        }
        Ok(())
    }

    /// All that its CI does, and `cargo build`, with the lock file that the template ships.
    pub(super) fn check(&self) -> Result<()> {
        self.rendered()?;
        shell::run(&mut self.cargo(&["fmt", "--check"])?)?;
        let lint = ["clippy", "--quiet", "--all-targets", "--locked", "--", "-D", "warnings"];
        shell::run(&mut self.cargo(&lint)?)?;
        shell::run(&mut self.cargo(&["build", "--quiet", "--locked"])?)?;
        shell::run(&mut self.cargo(&["test", "--quiet", "--locked"])?)
    }

    /// `config check`, then a run from the start to SIGTERM with one request of each kind.
    pub(super) fn serve(&self) -> Result<()> {
        shell::quiet(self.program()?.args(["config", "check"]))?;
        let service = self.start(&[])?;
        self.probe(&service)?;
        service.stop()
    }

    /// The built program in the project's folder, without the variables of whoever runs this.
    fn program(&self) -> Result<Command> {
        let mut program = Command::new(shell::target()?.join("debug").join(&self.name));
        program.current_dir(&self.folder).stdin(Stdio::null());
        without_settings(&mut program);
        Ok(program)
    }

    /// Starts it on free ports.
    pub(super) fn start(&self, variables: &[(&str, &str)]) -> Result<Service> {
        let ready_file = super::playground().join(format!("{}.ready", self.name));
        let _ = fs::remove_file(&ready_file);
        let mut program = self.program()?;
        program.args(["--set", "http.address=127.0.0.1:0", "--set", "admin.address=127.0.0.1:0", "--ready-file"]);
        let log = super::playground().join(format!("{}.log", self.name));
        let file = File::create(&log)?;
        program.stdout(file.try_clone()?).stderr(file);
        let process = program.arg(&ready_file).envs(variables.iter().copied()).spawn()?;
        let mut service = Service { process, log, http: nowhere(), admin: nowhere() };
        let ready = |service: &mut Service| {
            if let Some(status) = service.process.try_wait()? {
                return Err(format!("it ended with {status} before it was ready:\n{}", service.said()).into());
            }
            let text = fs::read_to_string(&ready_file).unwrap_or_default();
            Ok(shell::ready_address(&text, "http").zip(shell::ready_address(&text, "admin")))
        };
        (service.http, service.admin) = wait_for("a ready file", || ready(&mut service))?;
        fs::remove_file(ready_file)?;
        Ok(service)
    }

    fn probe(&self, service: &Service) -> Result<()> {
        for path in ["/livez", "/readyz"] {
            expect(service.http, path, "")?;
        }
        if self.template != "grpc-service" {
            expect(service.http, "/hello/ada", r#"{"text":"Hello, ada!"}"#)?;
        }
        if self.template != "http-service" {
            let address = format!("http://{}", service.http);
            let mut call = self.cargo(&["run", "--quiet", "--locked", "--example", "call", "--", "ada", &address])?;
            let said = String::from_utf8(shell::output(&mut call)?)?;
            if said != "Hello, ada!\n" {
                return Err(format!("the example `call` printed {said:?}").into());
            }
        }
        expect(service.admin, "/metrics", "http_server_request_duration_seconds_count")
    }
}

/// A process, killed when dropped.
pub(super) struct Service {
    process: Child,
    /// The file that its output goes to.
    log: PathBuf,
    pub(super) http: SocketAddr,
    pub(super) admin: SocketAddr,
}

impl Service {
    /// SIGTERM, and exit code 0.
    pub(super) fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.process), Signal::TERM)?;
        let status: ExitStatus = wait_for("an end", || Ok(self.process.try_wait()?))?;
        if status.code() == Some(0) {
            return Ok(());
        }
        Err(format!("it ended with {status} after SIGTERM:\n{}", self.said()).into())
    }

    /// The end of its output so far.
    fn said(&self) -> String {
        shell::tail(&fs::read_to_string(&self.log).unwrap_or_default())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn nowhere() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// GET has to be answered with 200, and this in the body.
fn expect(address: SocketAddr, path: &str, part: &str) -> Result<()> {
    let (status, body) = get(address, path)?;
    let right = status == 200 && body.contains(part);
    if right { Ok(()) } else { Err(format!("GET {path}: found {status} {body}, expected 200 and {part:?}").into()) }
}

/// GET, as status and body.
pub(super) fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // 1.0: the body comes whole, not in chunks.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).ok_or("an answer without a status")?.parse()?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}

/// Asks until there is something.
#[allow(clippy::disallowed_methods, reason = "a process outside cannot be awaited; a thread of xtask may sleep")]
pub(super) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if started.elapsed() > PATIENCE {
            return Err(format!("no {what} within {} s", PATIENCE.as_secs()).into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
