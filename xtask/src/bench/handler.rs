//! `cargo xtask bench --handler`: what the handlers of `#[service]` cost beside those that a person writes on axum.
//!
//! Instructions alone are counted, without a server and without a load, so the figures may gate.

use std::fs;
use std::path::Path;

use super::instructions::{need_valgrind, total};
use crate::{Result, shell};

/// The most that the macro's handler may need of the other's instructions.
const GATE: f64 = 1.03;
const PACKAGE: &str = "handler";
const CASES: [(&str, &str); 4] = [
    ("path", "GET with a path parameter"),
    ("query", "GET with a query"),
    ("body", "POST of JSON, Created"),
    ("error", "a problem as the answer"),
];
/// Two runs of different length: what start-up costs, and first requests, falls out of their difference.
const SHORT: u32 = 500;
const LONG: u32 = 2_500;

pub(super) fn run(arguments: &[&String]) -> Result<()> {
    let gate = match arguments {
        [] => GATE,
        [name, value] if *name == "--gate" => {
            let gate = value.parse().ok().filter(|gate: &f64| gate.is_finite() && *gate > 0.0);
            gate.ok_or_else(|| format!("--gate: found {value}, expected a ratio such as {GATE}"))?
        }
        _ => return Err("--handler takes no other option than --gate RATIO".into()),
    };
    need_valgrind()?;
    shell::run(&mut shell::cargo(["build", "--release", "--locked", "--package", PACKAGE]))?;
    let program = shell::target()?.join("release").join(PACKAGE);
    println!("{:<28} {:>12} {:>12} {:>8}", "instructions per request", "by hand", "#[service]", "ratio");
    let mut above = Vec::new();
    for (case, name) in CASES {
        let (by_hand, by_macro) = (per_request(&program, "hand", case)?, per_request(&program, "macro", case)?);
        let ratio = by_macro / by_hand;
        println!("{name:<28} {by_hand:>12.0} {by_macro:>12.0} {ratio:>8.3}");
        if ratio > gate {
            above.push(case);
        }
    }
    if above.is_empty() {
        return Ok(());
    }
    Err(format!("above the gate of {gate}: {}", above.join(", ")).into())
}

fn per_request(program: &Path, side: &str, case: &str) -> Result<f64> {
    let counted = count(program, side, case, LONG)?.saturating_sub(count(program, side, case, SHORT)?);
    #[allow(clippy::cast_precision_loss, reason = "counts here are far below 2^53")]
    Ok(counted as f64 / f64::from(LONG - SHORT))
}

fn count(program: &Path, side: &str, case: &str, requests: u32) -> Result<u64> {
    let out = std::env::temp_dir().join(format!("xtask-bench-{}.handler", std::process::id()));
    let mut valgrind = shell::command("valgrind");
    valgrind.args(["--quiet", "--tool=callgrind"]).arg(format!("--callgrind-out-file={}", out.display()));
    shell::run(valgrind.arg(program).args([side, case, &requests.to_string()]))?;
    let profile = fs::read_to_string(&out)?;
    let _ = fs::remove_file(out);
    total(&profile).ok_or_else(|| "callgrind wrote no total".into())
}
