//! The quickstart as a process, for what it says and how it ends.

use std::{
    fs::File,
    path::PathBuf,
    process::{Child, Command},
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::Value;

use super::telemetry::PATIENCE;

/// The quickstart on free ports. Killed when dropped.
pub(crate) struct Quickstart {
    child: Option<Child>,
    ready: PathBuf,
    lines: PathBuf,
    /// What it says on standard error.
    errors: PathBuf,
    /// The address of the main port.
    pub(crate) http: String,
    /// The address of the operators' port.
    pub(crate) admin: String,
}

/// GET of an absolute address.
pub(crate) async fn get(url: &str) -> Response<Bytes> {
    send(Request::get(url).body(Full::default()).unwrap()).await
}

/// One request on a connection of its own; its answer is read to the end.
pub(crate) async fn send(request: Request<Full<Bytes>>) -> Response<Bytes> {
    let http2 = request.version() == Version::HTTP_2;
    let client = Client::builder(TokioExecutor::new()).http2_only(http2).build_http::<Full<Bytes>>();
    let (head, body) = client.request(request).await.unwrap().into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

/// A path in the folder of temporary files that nobody else uses.
pub(crate) fn scratch(name: &str) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("chassis-it-telemetry-{}-{number}-{name}", std::process::id()))
}

/// The program, to be started with further arguments; its environment is empty but for `env`.
pub(crate) fn quickstart(env: &[(&str, &str)]) -> Command {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(|deps| deps.parent()).unwrap().join("quickstart");
    assert!(program.exists(), "{} is missing: run `cargo xtask test`, which builds it", program.display());
    let mut command = Command::new(program);
    command.env_clear().envs(env.iter().copied()).current_dir(std::env::temp_dir());
    command.args(["serve", "--set", "http.address=127.0.0.1:0", "--set", "admin.address=127.0.0.1:0"]);
    command
}

impl Quickstart {
    /// Starts it and waits until it is ready.
    pub(crate) async fn start(env: &[(&str, &str)]) -> Self {
        let (ready, lines, errors) = (scratch("ready.json"), scratch("lines.json"), scratch("errors.txt"));
        let mut command = quickstart(env);
        // Files, because a pipe that nobody reads fills up.
        let command = command.arg("--ready-file").arg(&ready).stdout(File::create(&lines).unwrap());
        let child = Some(command.stderr(File::create(&errors).unwrap()).spawn().unwrap());
        let mut started = Self { child, ready, lines, errors, http: String::new(), admin: String::new() };
        let until = Instant::now() + PATIENCE;
        let bound: Value = loop {
            let written = std::fs::read(&started.ready).ok();
            if let Some(bound) = written.and_then(|written| serde_json::from_slice(&written).ok()) {
                break bound;
            }
            let ended = started.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < until, "not ready, {ended:?}: {}", started.said());
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        };
        started.http = bound["http"].as_str().unwrap().to_owned();
        started.admin = bound["admin"].as_str().unwrap().to_owned();
        started
    }

    /// All that it has said.
    fn said(&self) -> String {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        format!("on standard output:\n{}\non standard error:\n{}", read(&self.lines), read(&self.errors))
    }

    /// Stops it by SIGTERM and gives its exit code and its lines.
    pub(crate) async fn stop(mut self) -> (i32, Vec<Value>) {
        let mut child = self.child.take().unwrap();
        assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
        let until = Instant::now() + PATIENCE;
        while child.try_wait().unwrap().is_none() && Instant::now() < until {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let _ = child.kill();
        let status = child.wait().unwrap();
        let text = std::fs::read_to_string(&self.lines).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")));
        let code = status.code();
        let code = code.unwrap_or_else(|| panic!("killed, since it did not end in time ({status}): {}", self.said()));
        (code, lines.collect())
    }
}

impl Drop for Quickstart {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_file(&self.ready);
        let _ = std::fs::remove_file(&self.lines);
        let _ = std::fs::remove_file(&self.errors);
    }
}
