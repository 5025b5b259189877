//! Programs that a test starts, so that a failure shows what became of them: exit status and standard error.

use std::{
    process::{Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::Command,
    task::JoinHandle,
    time::timeout,
};

/// How long the last words of a program that has ended may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a program writes, read as it comes, so that it never waits for a reader.
#[derive(Debug)]
pub struct Heard {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Heard {
    pub fn of(mut from: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
        let into = Arc::clone(&bytes);
        let reader = tokio::spawn(async move {
            let mut chunk = [0; 8192];
            while let Ok(length @ 1..) = from.read(&mut chunk).await {
                into.lock().unwrap().extend_from_slice(&chunk[..length]);
            }
        });
        Self { bytes, reader }
    }

    pub fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    /// All of it, when the other end is closed.
    async fn whole(&mut self) -> Vec<u8> {
        let _ = (&mut self.reader).await;
        self.bytes.lock().unwrap().clone()
    }

    /// What is there when the program has ended, or a moment later.
    pub async fn last_words(&mut self) -> String {
        let _ = timeout(LAST_WORDS, self.whole()).await;
        self.so_far()
    }
}

/// How a child of this process stands, without taking its exit status from who waits for it.
pub fn standing(pid: Option<u32>) -> String {
    let Some(pid) = pid.and_then(|pid| Pid::from_raw(pid.cast_signed())) else { return "it has ended".to_owned() };
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::Pid(pid), look) {
        Ok(None) => "it runs".to_owned(),
        Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => format!("it has ended with exit code {code}"),
            (None, Some(signal)) => format!("signal {signal} has ended it"),
            (None, None) => "it has ended".to_owned(),
        },
        Err(error) => format!("it is no child any more: {error}"),
    }
}

/// Runs a command to its end, with this on its standard input. One that does not start, or does not end in time, is shown with
/// what it has said so far.
pub async fn finished(command: &mut Command, input: Option<&[u8]>, patience: Duration) -> Output {
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let mut stdout = Heard::of(child.stdout.take().expect("piped"));
    let mut stderr = Heard::of(child.stderr.take().expect("piped"));
    let stdin = child.stdin.take();
    let ends = async {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // One that reads no more says why in another way.
            let _ = stdin.write_all(input).await;
        }
        let status = child.wait().await.expect("it can be waited for");
        Output { status, stdout: stdout.whole().await, stderr: stderr.whole().await }
    };
    let ended = timeout(patience, ends).await;
    ended.unwrap_or_else(|_| {
        let (out, err) = (stdout.so_far(), stderr.so_far());
        panic!("{command:?} did not end within {patience:?}\non standard output:\n{out}\non standard error:\n{err}")
    })
}

#[tokio::test]
async fn a_program_that_fails_is_shown_with_its_words() {
    let shell = |script: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]);
        shell
    };
    let ended = finished(&mut shell("cat; echo lost >&2; exit 7"), Some(b"given"), Duration::from_secs(30)).await;
    assert_eq!((ended.status.code(), &*ended.stdout, &*ended.stderr), (Some(7), &b"given"[..], &b"lost\n"[..]));

    let hangs = tokio::spawn(async move {
        finished(&mut shell("echo waiting >&2; exec sleep 1000"), None, Duration::from_millis(500)).await
    });
    let panic = hangs.await.expect_err("it does not end").into_panic();
    let said = panic.downcast_ref::<String>().expect("a text");
    assert!(said.contains("did not end within 500ms") && said.contains("waiting"), "{said}");

    let mut child = Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
    let pid = child.id();
    // Waiting for the end would take the status away.
    let ended = timeout(Duration::from_secs(30), async {
        while standing(pid) == "it runs" {
            tokio::task::yield_now().await;
        }
    });
    ended.await.expect("it ends");
    assert_eq!(standing(pid), "it has ended with exit code 3");
    assert_eq!(child.wait().await.unwrap().code(), Some(3));
}
