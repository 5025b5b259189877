//! `cargo xtask test`: everything CI checks, in one order, with the time of each step.

mod apt;
mod failed;
mod steps;
mod tools;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::docs::{self, Mode};
use crate::shell::{self, cargo};
use crate::{Result, generate, templates, tidy};

use failed::Failed;
use steps::{Choice, Step};

/// The folder that the templates were tried in; the tutorial goes on from there.
const PLAYGROUND_VARIABLE: &str = "XTASK_PLAYGROUND";

/// What a run has so far.
#[derive(Default)]
struct Run {
    /// For the tests, from the steps before them.
    variables: Vec<(&'static str, OsString)>,
    /// For `cargo test`, from the command line.
    arguments: Vec<String>,
    failed: Failed,
}

const STEPS: &[Step<Run>] = &[
    Step { name: "tools", needs: &[], run: tools::find },
    Step { name: "python", needs: &["tools"], run: tools::python },
    Step { name: "node", needs: &[], run: tools::node },
    Step { name: "fmt", needs: &[], run: |_| shell::run(&mut cargo(["fmt", "--all", "--", "--check"])) },
    Step {
        name: "clippy",
        needs: &[],
        run: |_| {
            let lint = ["clippy", "--workspace", "--all-targets", "--all-features", "--locked", "--", "-D", "warnings"];
            shell::run(&mut cargo(lint))
        },
    },
    Step { name: "examples", needs: &[], run: |_| build_examples() },
    Step { name: "test", needs: &["tools", "python", "node", "examples"], run: test },
    Step {
        name: "docs",
        needs: &[],
        run: |_| {
            let document = ["doc", "--workspace", "--no-deps", "--locked"];
            shell::run(cargo(document).env("RUSTDOCFLAGS", "-D warnings"))
        },
    },
    Step { name: "tidy", needs: &[], run: |_| tidy::run() },
    Step { name: "pages", needs: &["examples"], run: |_| docs::check_built() },
    Step { name: "code", needs: &[], run: |_| generate::run(Mode::Check) },
    Step { name: "templates", needs: &["tools"], run: |_| templates::fast() },
    // Behind the templates: it generates from one, and finds their dependencies built.
    Step { name: "tutorial", needs: &["templates"], run: tutorial },
];

pub(crate) const USAGE: &str = "\
usage: cargo xtask test [OPTIONS]

  --only STEP    this step, with the steps that it needs
  --from STEP    this step and all behind it, with the steps that they need
  -- ARGUMENTS   with `--only test`: for `cargo test`, such as `-- --test it -- fault_fleet`";

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if matches!(arguments, [help] if help == "--help") {
        println!("{USAGE}\n\nsteps: {}", steps::names(STEPS));
        return Ok(());
    }
    let choice = Choice::read(arguments)?;
    let steps = steps::chosen(STEPS, &choice)?;
    let mut run = Run { arguments: choice.arguments, ..Run::default() };
    let mut times = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        println!("\n==> {}", step.name);
        let started = Instant::now();
        let outcome = (step.run)(&mut run);
        times.push((step.name, started.elapsed()));
        if let Err(error) = outcome {
            report(&times);
            print!("{}", run.failed);
            if let Some(next) = steps.get(index + 1) {
                println!("not reached: to go on, type cargo xtask test --from {}", next.name);
            }
            return Err(format!("step `{}` failed: {error}", step.name).into());
        }
    }
    report(&times);
    if steps.len() == STEPS.len() {
        println!("everything CI checks has passed");
    }
    Ok(())
}

fn report(times: &[(&str, Duration)]) {
    println!();
    for (name, time) in times {
        println!("{name:<16} {:>7.1} s", time.as_secs_f64());
    }
}

/// Every test, whichever of them fails before.
fn test(run: &mut Run) -> Result<()> {
    let mut command = cargo(["test", "--workspace", "--locked", "--no-fail-fast"]);
    command.args(&run.arguments).envs(run.variables.iter().map(|(name, value)| (name, value)));
    let failed = &mut run.failed;
    let status = shell::follow(&mut command, |line| failed.read(line))?;
    if status.success() { Ok(()) } else { Err(format!("cargo test ended with {status}").into()) }
}

fn tutorial(_: &mut Run) -> Result<()> {
    let follow = ["test", "--locked", "--workspace", "--test", "it", "--", "--ignored", "docs_tutorials"];
    shell::run(cargo(follow).env(PLAYGROUND_VARIABLE, templates::playground()))
}

/// The integration tests start these programs as users do: without the features that tests add, and without those that
/// another example asks for. In one build a crate gets the features that anybody asks for, so there is one for each choice.
fn build_examples() -> Result<()> {
    let mut packages: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in fs::read_dir(shell::root().join("examples"))?.flatten() {
        if let Ok(manifest) = fs::read_to_string(entry.path().join("Cargo.toml")) {
            let choice = features_of_chassis(&manifest).to_owned();
            packages.entry(choice).or_default().push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    for packages in packages.values_mut() {
        packages.sort();
        let selection = packages.iter().flat_map(|package| ["--package", package]);
        shell::run(&mut cargo(["build", "--locked"].into_iter().chain(selection)))?;
    }
    Ok(())
}

/// The line by which a program depends on the chassis; not that of its tests.
fn features_of_chassis(manifest: &str) -> &str {
    let program = manifest.split_once("[dev-dependencies]").map_or(manifest, |(program, _)| program);
    program.lines().find(|line| line.starts_with("chassis")).unwrap_or_default()
}

/// The folder for downloads, kept between runs; git ignores it.
fn cache() -> PathBuf {
    shell::root().join(".cache")
}

#[cfg(test)]
mod tests {
    use super::{STEPS, USAGE, features_of_chassis, run, steps};

    #[test]
    fn features_of_the_program_count_and_those_of_its_tests_do_not() {
        let plain = "[dependencies]\naxum.workspace = true\nchassis.workspace = true\n";
        let tested =
            format!("{plain}\n[dev-dependencies]\nchassis = {{ workspace = true, features = [\"testing\"] }}\n");
        let cached = "[dependencies]\nchassis = { workspace = true, features = [\"cache\"] }\n";
        assert_eq!(features_of_chassis(&tested), features_of_chassis(plain));
        assert_ne!(features_of_chassis(cached), features_of_chassis(plain));
    }

    #[test]
    fn every_step_needs_only_earlier_ones() {
        for (index, step) in STEPS.iter().enumerate() {
            let before = steps::names(&STEPS[..index]);
            assert!(step.needs.iter().all(|need| before.split(", ").any(|name| name == *need)), "{}", step.name);
        }
    }

    #[test]
    fn an_unknown_option_is_answered_with_the_usage() {
        let error = run(&["--fast".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("--fast") && error.contains(USAGE), "{error}");
    }
}
