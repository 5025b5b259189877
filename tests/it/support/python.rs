//! Clients in Python, which share no code with the service.

use std::{path::Path, process::Stdio};

use serde_json::Value;
use tokio::{process::Command, time::timeout};

use super::process::PATIENCE;

/// Runs a script of `foreign/`; gives the JSON that it prints.
pub async fn run(script: &str, arguments: &[&str]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/foreign").join(script);
    let python = std::env::var_os("XTASK_PYTHON").unwrap_or_else(|| "python3".into());
    let client = Command::new(python)
        .arg(script)
        .args(arguments)
        // A proxy of the machine's knows nothing of loopback.
        .env("no_grpc_proxy", "127.0.0.1")
        // Nothing is left beside the scripts.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE, client).await.expect("the client ends").expect("no Python; run `cargo xtask test`");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("ModuleNotFoundError"), "this Python has no grpcio; run `cargo xtask test`: {stderr}");
    assert!(output.status.success(), "{stderr}");
    serde_json::from_slice(&output.stdout).expect("the client prints JSON")
}
