//! The quickstart binary as a process of its own, as users start it.

use std::{
    net::{SocketAddr, TcpListener},
    os::{fd::OwnedFd, unix::process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
    time::{interval, timeout},
};

use super::{
    account::{finished, standing},
    http1::{self, Answer},
};

pub use super::pace::PATIENCE;

/// The binary that `cargo build -p quickstart` makes, beside the tests' own.
pub fn binary() -> PathBuf {
    example("quickstart")
}

/// The binary of one of the examples.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test has a path");
    let path = test.ancestors().nth(2).expect("target/debug/deps/it").join(name);
    assert!(path.exists(), "the {name} binary is missing; run `cargo xtask test`, or `cargo build -p {name}`");
    path
}

/// A folder of the test's own, gone with the value.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file whole: nobody sees half of it.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let (path, partial) = (self.0.join(name), self.0.join(format!("{name}.partial")));
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::create_dir_all(partial.parent().expect("a folder")).expect("a folder");
        std::fs::write(&partial, content).expect("a file");
        std::fs::rename(&partial, &path).expect("a file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How a process is to be started: in a folder of its own, with no variables but those given here.
#[derive(Debug)]
pub struct Quickstart {
    binary: PathBuf,
    folder: Folder,
    arguments: Vec<String>,
    env: Vec<(String, String)>,
    open_files: Option<u32>,
    /// A socket that is handed over, and for which process.
    socket: Option<(TcpListener, String)>,
}

impl Quickstart {
    /// On free ports of the loopback address.
    pub fn new() -> Self {
        let bare = Self::bare();
        bare.set("http.address", "127.0.0.1:0").set("admin.address", "127.0.0.1:0")
    }

    /// The tests' own service (`tests/src/bin/fixture.rs`) in its place.
    pub fn fixture() -> Self {
        Self { binary: PathBuf::from(env!("CARGO_BIN_EXE_fixture")), ..Self::new() }
    }

    /// Another example in its place.
    pub fn example(name: &str) -> Self {
        Self { binary: example(name), ..Self::new() }
    }

    /// With nothing set at all.
    pub fn bare() -> Self {
        Self {
            binary: binary(),
            folder: Folder::new(),
            arguments: Vec::new(),
            env: Vec::new(),
            open_files: None,
            socket: None,
        }
    }

    pub fn set(self, key: &str, value: &str) -> Self {
        self.arguments(&["--set", &format!("{key}={value}")])
    }

    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A file in the folder the process runs in.
    pub fn file(self, name: &str, content: &str) -> Self {
        self.folder.write(name, content);
        self
    }

    /// Hands a socket over by `LISTEN_FDS`, as systemd and watchers do.
    pub fn socket(self, socket: &TcpListener) -> Self {
        // The shell's own id, which the program keeps.
        self.socket_of("$$", socket)
    }

    /// The same, for the process of this id.
    pub fn socket_of(mut self, pid: &str, socket: &TcpListener) -> Self {
        self.socket = Some((socket.try_clone().expect("a second descriptor"), pid.to_owned()));
        self
    }

    /// Where a file of that folder is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// With no more descriptors than these, by the soft limit and by the hard one.
    pub fn open_files(mut self, limit: u32) -> Self {
        self.open_files = Some(limit);
        self
    }

    fn command(&self) -> Command {
        // A shell lowers the limit, and puts the socket where the protocol has it, behind the standard streams.
        let limit = self.open_files.map(|limit| format!("ulimit -n {limit}; "));
        let hand_over = self
            .socket
            .as_ref()
            .map(|(_, pid)| format!("exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID={pid}; "));
        let mut command = match (&limit, &hand_over) {
            (None, None) => Command::new(&self.binary),
            (limit, hand_over) => {
                let [limit, hand_over] = [limit, hand_over].map(|part| part.as_deref().unwrap_or_default());
                let mut shell = Command::new("/bin/sh");
                shell.arg("-c").arg(format!("set -e; {limit}{hand_over}exec \"$0\" \"$@\"")).arg(&self.binary);
                shell
            }
        };
        let stdin = match &self.socket {
            None => Stdio::null(),
            Some((socket, _)) => OwnedFd::from(socket.try_clone().expect("a second descriptor")).into(),
        };
        command
            .args(&self.arguments)
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path())
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs a command that ends by itself.
    pub async fn run(self) -> Ended {
        Ended::of(finished(&mut self.command(), None, PATIENCE).await)
    }

    /// Starts the process without waiting for anything.
    pub fn spawn(self) -> Process {
        let ready_file = self.folder.path().join("ready.json");
        let child = self.command().arg("--ready-file").arg(&ready_file).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{} does not start: {error}", self.binary.display()));
        let (out, stdout) = collect(child.stdout.take().expect("piped"));
        let (err, stderr) = collect(child.stderr.take().expect("piped"));
        Process { folder: self.folder, child, ready_file, stdout, stderr, readers: vec![out, err] }
    }

    /// Starts the service and waits until it is ready.
    pub async fn start(self) -> Service {
        let mut process = self.spawn();
        let (http, admin) = process.ready().await;
        Service { process, http, admin }
    }
}

/// What a command left behind.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    pub fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("the output is text");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

fn collect(from: impl AsyncRead + Unpin + Send + 'static) -> (JoinHandle<()>, watch::Receiver<Vec<String>>) {
    let (sender, receiver) = watch::channel(Vec::new());
    let reader = tokio::spawn(async move {
        let mut lines = BufReader::new(from).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            sender.send_modify(|lines| lines.push(line));
        }
    });
    (reader, receiver)
}

/// A process that was started. Dropped, it is killed.
#[derive(Debug)]
pub struct Process {
    folder: Folder,
    child: Child,
    ready_file: PathBuf,
    stdout: watch::Receiver<Vec<String>>,
    stderr: watch::Receiver<Vec<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().expect("the process runs");
        kill_process(Pid::from_raw(pid.cast_signed()).expect("a pid"), signal).expect("the signal is sent");
    }

    /// Waits until the process has a handler for the signal: before that it would die of it.
    pub async fn catches(&self, signal: Signal) {
        let pid = self.child.id().expect("the process runs");
        let mask = 1_u64 << (signal.as_raw() - 1);
        let caught = || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("Linux says so");
            u64::from_str_radix(caught.trim(), 16).expect("a mask") & mask != 0
        };
        let mut tick = interval(Duration::from_millis(5));
        let caught = timeout(PATIENCE, async {
            while !caught() {
                tick.tick().await;
            }
        });
        assert!(caught.await.is_ok(), "the process does not listen to {signal:?}: {}", self.account());
    }

    /// How it stands, and what it has said, for a test that expected something else.
    pub fn account(&self) -> String {
        let (stdout, stderr) = (self.stdout.borrow().join("\n"), self.stderr.borrow().join("\n"));
        let standing = standing(self.child.id());
        format!("{standing}\non standard output:\n{stdout}\non standard error:\n{stderr}")
    }

    /// Watches for the ready file; gives the addresses in it.
    async fn ready(&mut self) -> (SocketAddr, SocketAddr) {
        let path = self.ready_file.clone();
        let appears = async {
            let mut tick = interval(Duration::from_millis(5));
            loop {
                tick.tick().await;
                if let Ok(content) = std::fs::read(&path) {
                    return content;
                }
            }
        };
        let content = tokio::select! {
            content = timeout(PATIENCE, appears) => {
                content.unwrap_or_else(|_| panic!("not ready within {PATIENCE:?}: {}", self.account()))
            }
            ended = self.child.wait() => {
                // What it said last may still be on its way.
                for reader in self.readers.drain(..) {
                    let _ = timeout(Duration::from_secs(1), reader).await;
                }
                panic!("{ended:?} before it was ready: {}", self.account())
            }
        };
        let content: Value = serde_json::from_slice(&content).expect("the ready file is JSON, written whole");
        assert_eq!(content["pid"], self.child.id().expect("the process runs"));
        let address = |key: &str| content[key].as_str().expect("an address").parse().expect("an address");
        (address("http"), address("admin"))
    }

    /// Waits for a line of standard output that holds the text.
    pub async fn says(&self, text: &str) -> String {
        let find = |lines: &Vec<String>| lines.iter().find(|line| line.contains(text)).cloned();
        let mut lines = self.stdout.clone();
        let found = match timeout(PATIENCE, lines.wait_for(|lines| find(lines).is_some())).await {
            Ok(Ok(lines)) => find(&lines),
            _ => None,
        };
        found.unwrap_or_else(|| panic!("found no line with {text:?}: {}", self.account()))
    }

    /// The lines of standard error so far.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.borrow().clone()
    }

    /// The lines of standard output so far.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.borrow().clone()
    }

    /// The log lines so far that say this message.
    pub fn logged(&self, message: &str) -> Vec<Value> {
        let lines = self.stdout();
        let events = lines.iter().map(|line| serde_json::from_str::<Value>(line).expect("every line is JSON"));
        events.filter(|event| event["message"] == message).collect()
    }

    /// Waits for the end; gives the exit code, 128 + the number of the signal that killed it otherwise. The output is whole.
    pub async fn exit_code(&mut self) -> i32 {
        let Ok(status) = timeout(PATIENCE, self.child.wait()).await else {
            panic!("the process does not end within {PATIENCE:?}: {}", self.account());
        };
        let status: ExitStatus = status.expect("it can be waited for");
        for reader in self.readers.drain(..) {
            timeout(PATIENCE, reader).await.expect("the output ends").expect("it was read");
        }
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
    }
}

/// A process that serves.
#[derive(Debug)]
pub struct Service {
    pub process: Process,
    pub http: SocketAddr,
    pub admin: SocketAddr,
}

impl Service {
    /// GET on the main port, on a connection of its own.
    pub async fn get(&self, path: &str) -> Answer {
        http1::get(self.http, path).await
    }

    /// GET on the operators' port, on a connection of its own.
    pub async fn operator(&self, path: &str) -> Answer {
        http1::get(self.admin, path).await
    }

    /// Sends SIGTERM and waits for the end.
    pub async fn terminate(&mut self) -> i32 {
        self.process.signal(Signal::TERM);
        self.process.exit_code().await
    }
}
