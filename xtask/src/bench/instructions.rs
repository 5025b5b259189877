//! User instructions per request, counted by callgrind: nearly the same figure on every machine, however busy.

use std::fs;
use std::time::Duration;

use super::cores::Cores;
use super::load;
use super::server::{Program, Server};
use crate::{Result, shell};

/// Not counted: first requests fill caches and tables.
const WARM_UP: usize = 2_000;
/// Counted.
const COUNTED: usize = 10_000;
/// A program runs some fifty times slower under valgrind.
const READY_LIMIT: Duration = Duration::from_secs(120);

pub(super) fn per_request(program: &Program, cores: &Cores) -> Result<f64> {
    need_valgrind()?;
    let out = std::env::temp_dir().join(format!("xtask-bench-{}.callgrind", std::process::id()));
    let wrapper = ["valgrind", "--quiet", "--tool=callgrind"].map(str::to_owned).into_iter();
    let wrapper: Vec<String> = wrapper.chain([format!("--callgrind-out-file={}", out.display())]).collect();
    let server = Server::start(program, &wrapper, cores, READY_LIMIT)?;
    // A dump writes what was counted since the last one, so start-up and warm-up are in the first. The counts are taken
    // from dumps, and not at the end, because callgrind 3.19 stops on an assertion of its own when a signal meets threads.
    load::sequential(server.address, WARM_UP)?;
    dump(&server)?;
    load::sequential(server.address, COUNTED)?;
    dump(&server)?;
    drop(server);
    let part = |number: usize| out.with_extension(format!("callgrind.{number}"));
    let profile = fs::read_to_string(part(2))?;
    for path in [out.clone(), part(1), part(2)] {
        let _ = fs::remove_file(path);
    }
    let counted = total(&profile).ok_or("callgrind wrote no total")?;
    #[allow(clippy::cast_precision_loss, reason = "counts here are far below 2^53")]
    Ok(counted as f64 / COUNTED as f64)
}

pub(super) fn need_valgrind() -> Result<()> {
    if shell::succeeds(shell::command("valgrind").arg("--version")) {
        Ok(())
    } else {
        Err("valgrind is missing; type apt-get install valgrind".into())
    }
}

fn dump(server: &Server) -> Result<()> {
    let pid = server.id().to_string();
    shell::quiet(shell::command("callgrind_control").args(["--dump", &pid]))
}

/// The line `summary: N` of a callgrind profile; `totals: N` in some versions.
pub(super) fn total(profile: &str) -> Option<u64> {
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
