//! User instructions per request, counted by callgrind: the same figure on every machine, however busy.

use std::fs;
use std::time::Duration;

use super::cores::Cores;
use super::load;
use super::server::{Program, Server};
use crate::{Result, shell};

/// Two runs of different length; their difference leaves start-up and shutdown out.
const SHORT: usize = 2_000;
const LONG: usize = 12_000;
/// A program runs some fifty times slower under valgrind.
const READY_LIMIT: Duration = Duration::from_secs(120);

pub(super) fn per_request(program: &Program, cores: &Cores) -> Result<f64> {
    if !shell::succeeds(shell::command("valgrind").arg("--version")) {
        return Err("valgrind is missing; type apt-get install valgrind".into());
    }
    let (short, long) = (count(program, cores, SHORT)?, count(program, cores, LONG)?);
    #[allow(clippy::cast_precision_loss, reason = "counts here are far below 2^53")]
    Ok(long.saturating_sub(short) as f64 / (LONG - SHORT) as f64)
}

fn count(program: &Program, cores: &Cores, requests: usize) -> Result<u64> {
    let out = std::env::temp_dir().join(format!("xtask-bench-{}.callgrind", std::process::id()));
    let wrapper = ["valgrind", "--quiet", "--tool=callgrind"].map(str::to_owned).into_iter();
    let wrapper: Vec<String> = wrapper.chain([format!("--callgrind-out-file={}", out.display())]).collect();
    let server = Server::start(program, &wrapper, cores, READY_LIMIT)?;
    load::sequential(server.address, requests)?;
    server.stop()?;
    let profile = fs::read_to_string(&out)?;
    let _ = fs::remove_file(&out);
    total(&profile).ok_or_else(|| "callgrind wrote no total".into())
}

/// The line `summary: N` of a callgrind profile; `totals: N` in some versions.
fn total(profile: &str) -> Option<u64> {
    let mut lines = profile.lines().rev();
    let value = lines.find_map(|line| line.strip_prefix("totals:").or_else(|| line.strip_prefix("summary:")))?;
    value.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::total;

    #[test]
    fn total_of_a_profile_is_found() {
        assert_eq!(total("events: Ir\nsummary: 12\n\nfn=(1) a\n3 4\n\ntotals: 34\n"), Some(34));
        assert_eq!(total("events: Ir\nsummary: 12\n"), Some(12));
        assert_eq!(total("events: Ir\n"), None);
    }
}
