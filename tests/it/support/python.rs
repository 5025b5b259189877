//! Programs in Python, which share no code with the service: clients, and tools that `xtask/python-requirements.txt` lists.

use std::{path::Path, time::Duration};

use serde_json::Value;
use tokio::process::Command;

use super::{
    account::finished,
    process::{Ended, PATIENCE},
};

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
pub fn server(script: &str) -> Command {
    let mut python = python();
    python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("it/foreign").join(script));
    python
}

/// Runs a script of `foreign/`; gives the JSON that it prints.
pub async fn run(script: &str, arguments: &[&str]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/foreign").join(script);
    let output = finished(python().arg(&script).args(arguments), None, PATIENCE).await;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let said = format!("{}: {}\n{stdout}\non standard error:\n{stderr}", script.display(), output.status);
    assert!(!stderr.contains("ModuleNotFoundError"), "this Python lacks a module; run `cargo xtask test`: {said}");
    assert!(output.status.success(), "{said}");
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("it prints no JSON ({error}): {said}"))
}

/// Runs Python with these arguments and this on its standard input, in this folder.
pub async fn tool(arguments: &[&str], input: &str, folder: &Path) -> Ended {
    let mut python = python();
    let python = python.args(arguments).current_dir(folder);
    let ended = Ended::of(finished(python, Some(input.as_bytes()), PATIENCE_WITH_TOOLS).await);
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
