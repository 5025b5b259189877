//! `examples/orders`: the domain knows no transport, no telemetry and no database.

use std::path::{Path, PathBuf};

/// What the domain must not name, and so cannot use.
const FOREIGN: [&str; 12] =
    ["api", "axum", "grpc", "http", "hyper", "opentelemetry", "prost", "proto", "sqlx", "tonic", "tower", "tracing"];

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The foreign names in the code, comments left out.
fn foreign(code: &str) -> Vec<&str> {
    let code = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    let words = code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'));
    words.filter(|word| FOREIGN.contains(word)).collect()
}

#[test]
fn the_domain_of_orders_names_no_transport_no_telemetry_and_no_database() {
    let domain = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/orders/src/domain");
    let files = files(&domain);
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        let code = std::fs::read_to_string(&file).expect("text");
        assert_eq!(foreign(&code), [""; 0], "{}", file.display());
    }
}

#[test]
fn a_foreign_name_is_seen_however_it_is_written() {
    for (code, seen) in [
        ("use axum::Json;", &["axum"][..]),
        ("fn f() -> tonic::Status {", &["tonic"]),
        ("use {::tracing, serde};", &["tracing"]),
        ("#[tracing::instrument]", &["tracing"]),
        ("use crate::grpc::proto;", &["grpc", "proto"]),
        ("// over HTTP, with axum", &[]),
        ("let http_like = 1;", &[]),
    ] {
        assert_eq!(foreign(code), seen, "{code}");
    }
}
