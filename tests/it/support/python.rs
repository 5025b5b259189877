//! Programs in Python, which share no code with the service: clients, and tools that `xtask/python-requirements.txt` lists.

use std::{path::Path, process::Stdio, time::Duration};

use serde_json::Value;
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

use super::process::{Ended, PATIENCE};

/// How long a tool may take that asks a service many things. It ends by itself long before.
const PATIENCE_WITH_TOOLS: Duration = Duration::from_secs(600);

fn python() -> Command {
    let mut python = Command::new(std::env::var_os("XTASK_PYTHON").unwrap_or_else(|| "python3".into()));
    python
        // A proxy of the machine's knows nothing of loopback.
        .env("no_grpc_proxy", "127.0.0.1")
        .env("NO_PROXY", "127.0.0.1")
        .env("no_proxy", "127.0.0.1")
        // Nothing is left beside the scripts.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("NO_COLOR", "1")
        .kill_on_drop(true);
    python
}

/// A script of `foreign/` that goes on until it is killed.
pub(super) fn server(script: &str) -> Command {
    let mut python = python();
    python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("it/foreign").join(script));
    python
}

/// Runs a script of `foreign/`; gives the JSON that it prints.
pub async fn run(script: &str, arguments: &[&str]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/foreign").join(script);
    let client = python().arg(script).args(arguments).stdin(Stdio::null()).output();
    let output = timeout(PATIENCE, client).await.expect("the client ends").expect("no Python; run `cargo xtask test`");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("ModuleNotFoundError"), "this Python has no grpcio; run `cargo xtask test`: {stderr}");
    assert!(output.status.success(), "{stderr}");
    serde_json::from_slice(&output.stdout).expect("the client prints JSON")
}

/// Runs Python with these arguments and this on its standard input, in this folder.
pub async fn tool(arguments: &[&str], input: &str, folder: &Path) -> Ended {
    let mut python = python();
    let python = python.args(arguments).current_dir(folder);
    let python = python.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = python.spawn().expect("no Python; run `cargo xtask test`");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).await.expect("Python reads");
    drop(stdin);
    let output = timeout(PATIENCE_WITH_TOOLS, child.wait_with_output()).await.expect("it ends").expect("it is read");
    let ended = Ended::of(output);
    let stderr = &ended.stderr;
    assert!(!stderr.contains("No module named"), "this Python lacks a module; run `cargo xtask test`: {stderr}");
    ended
}

/// What a gzip stream holds, by the reading of another program than ours.
pub async fn gunzip(stream: &[u8]) -> Vec<u8> {
    let hex: String = stream.iter().map(|byte| format!("{byte:02x}")).collect();
    let script = "import gzip, sys; sys.stdout.write(gzip.decompress(bytes.fromhex(sys.stdin.read())).decode())";
    let ended = tool(&["-c", script], &hex, Path::new(env!("CARGO_TARGET_TMPDIR"))).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.stdout.into_bytes()
}
