//! The program of this package, started on free ports.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// How long a test waits for what should come at once.
const PATIENCE: Duration = Duration::from_secs(120);

/// A process, killed when dropped.
pub struct Service {
    process: Child,
    ready_file: PathBuf,
    pub address: SocketAddr,
}

/// The program in the folder of its configuration, without the variables of whoever runs the tests.
pub fn program() -> Command {
    let mut program = Command::new(env!(concat!("CARGO_BIN_EXE_", env!("CARGO_PKG_NAME"))));
    program.current_dir(env!("CARGO_MANIFEST_DIR")).env_clear().stdin(Stdio::null());
    program
}

impl Service {
    /// Starts it and waits until it is ready. It announces itself nowhere.
    pub fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}.json", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let ready_file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_file(&ready_file);
        let mut program = program();
        for value in ["http.address=127.0.0.1:0", "admin.address=127.0.0.1:0", "discovery.register=none"] {
            program.args(["--set", value]);
        }
        program.arg("--ready-file").arg(&ready_file).stdout(Stdio::null());
        let process = program.spawn().expect("the program starts");
        let mut service = Self { process, ready_file, address: ([127, 0, 0, 1], 0).into() };
        service.address = service.wait_for("ready file", |service| {
            let ended = service.process.try_wait().expect("a state");
            assert_eq!(ended, None, "the program ended before it was ready");
            address(&fs::read_to_string(&service.ready_file).ok()?)
        });
        service
    }

    /// GET, as status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let head = format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.address);
        stream.write_all(head.as_bytes()).expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, body.to_owned())
    }

    /// SIGTERM, and exit code 0.
    pub fn stop(mut self) {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, Signal::TERM).expect("a signal");
        let status = self.wait_for("end", |service| service.process.try_wait().expect("a state"));
        assert_eq!(status.code(), Some(0), "{status}");
    }

    fn wait_for<T>(&mut self, what: &str, look: impl Fn(&mut Self) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(started.elapsed() < PATIENCE, "no {what} within {PATIENCE:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_file(&self.ready_file);
    }
}

/// `{"http":"127.0.0.1:34567",…}`
fn address(ready: &str) -> Option<SocketAddr> {
    ready.split_once(r#""http":"#)?.1.split('"').nth(1)?.parse().ok()
}
