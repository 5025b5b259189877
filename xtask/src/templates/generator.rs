//! The real cargo-generate, and what it makes.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::{empty, hold, playground};
use crate::{Result, shell};

/// The version that the templates are tested with; newer ones may do.
const VERSION: &str = "0.23.14";

/// Where cargo-generate looks for an author, whom the templates do not name, before and after git's `user.name`.
const WHO: &[&str] = &["CARGO_NAME", "GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "USER", "USERNAME", "NAME"];

pub(super) struct Generator {
    program: PathBuf,
    /// A copy of what git has of this checkout: as after `git clone`.
    pub(super) checkout: PathBuf,
}

/// What one run of cargo-generate left.
pub(super) struct Outcome {
    pub(super) done: bool,
    /// Both streams.
    pub(super) said: String,
}

impl Generator {
    /// Installs cargo-generate when it is not there yet, and brings the bare checkout up to date.
    pub(super) fn find() -> Result<Self> {
        let program = installed("cargo-generate", VERSION)?;
        hold()?;
        let checkout = playground().join("chassis");
        mirror(&checkout)?;
        Ok(Self { program, checkout })
    }

    /// `cargo generate ARGUMENTS` in this folder, by somebody whom git does not know.
    pub(super) fn run<A: AsRef<OsStr>>(&self, folder: &Path, arguments: &[A]) -> Result<Outcome> {
        self.run_with(folder, arguments, &[("USER", "somebody")])
    }

    /// The same with these variables alone, of those that tell cargo-generate something.
    pub(super) fn run_with<A: AsRef<OsStr>>(
        &self,
        folder: &Path,
        arguments: &[A],
        variables: &[(&str, &str)],
    ) -> Result<Outcome> {
        let mut generate = shell::command(&self.program);
        for (variable, _) in std::env::vars_os() {
            let told = |name: &str| name.starts_with("CARGO_GENERATE_") || WHO.contains(&name);
            if variable.to_str().is_some_and(told) {
                generate.env_remove(variable);
            }
        }
        // No git configuration either: a new machine, a container.
        let home = empty("home")?;
        generate.env("HOME", &home).env_remove("XDG_CONFIG_HOME").env("GIT_CONFIG_NOSYSTEM", "1");
        generate.envs(variables.iter().copied()).current_dir(folder);
        // A favourite or a value of the user must not change what is tested.
        let config = playground().join("no-config.toml");
        fs::write(&config, "")?;
        generate.arg("generate").args(arguments).arg("--config").arg(config);
        let output = generate.output().map_err(|error| format!("cannot start cargo-generate: {error}"))?;
        let said = [output.stdout, output.stderr].map(|stream| String::from_utf8_lossy(&stream).into_owned()).concat();
        Ok(Outcome { done: output.status.success(), said })
    }

    /// With a name and no questions, without a repository of its own; has to work. Gives the project's folder.
    pub(super) fn make(&self, folder: &Path, name: &str, arguments: &[&str]) -> Result<PathBuf> {
        let quiet = ["--name", name, "--silent", "--vcs=none"];
        let outcome = self.run(folder, &[arguments, &quiet].concat())?;
        if !outcome.done {
            return Err(
                format!("cargo generate {} --name {name} failed:\n{}", arguments.join(" "), outcome.said).into()
            );
        }
        Ok(folder.join(name))
    }
}

/// Whether cargo-generate needs no build any more.
pub(super) fn is_installed() -> bool {
    current("cargo-generate", VERSION).is_some()
}

/// Where programs from the registry are kept.
fn kept(name: &str) -> PathBuf {
    shell::root().join(".cache").join(name)
}

/// The kept program, when it is of this version.
fn current(name: &str, version: &str) -> Option<PathBuf> {
    let program = kept(name).join("bin").join(name);
    let said = shell::command(&program).arg("--version").stderr(Stdio::null()).output().ok()?;
    String::from_utf8_lossy(&said.stdout).trim_end().ends_with(version).then_some(program)
}

/// A program from the registry in exactly this version, kept in `.cache/`.
pub(super) fn installed(name: &str, version: &str) -> Result<PathBuf> {
    if current(name, version).is_none() {
        println!("installing {name} {version}; this takes some minutes, once");
        // Not optimised: it runs a few times, and is built twice as fast.
        let mut install = shell::cargo(["install", "--locked", "--debug", "--quiet", "--version", version, "--root"]);
        // Beside the workspace's own output, of which none can be reused.
        let target = shell::target()?.join(name);
        shell::run(install.arg(kept(name)).arg("--target-dir").arg(&target).arg(name))?;
        let _ = fs::remove_dir_all(target);
    }
    current(name, version).ok_or_else(|| format!("cargo install left no {name} {version} that runs").into())
}

/// Copies what git tracks or would track. Files that are the same stay as they are, so that cargo does not build anew.
fn mirror(to: &Path) -> Result<()> {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = String::from_utf8(shell::output(shell::command("git").args(list))?)?;
    let mut wanted = Vec::new();
    for path in listed.split_terminator('\0') {
        // Deleted but not yet committed, or a link.
        let Ok(content) = fs::read(shell::root().join(path)) else { continue };
        let copy = to.join(path);
        if fs::read(&copy).ok().as_ref() != Some(&content) {
            fs::create_dir_all(copy.parent().unwrap_or(to))?;
            fs::write(&copy, content)?;
        }
        wanted.push(copy);
    }
    wanted.sort();
    for file in files(to)? {
        if wanted.binary_search(&file).is_err() {
            fs::remove_file(file)?;
        }
    }
    Ok(())
}

/// Every file below a folder, in order; what git keeps for itself is left out.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true if entry.file_name() == ".git" => {}
                true => folders.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    found.sort();
    Ok(found)
}
