//! Where the repository is and how its programs are started.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::Result;

/// Lines of a failed command that its error quotes. Chosen: the reason stands in the last ones.
const QUOTED_LINES: usize = 20;

/// The repository's root: cargo sets the manifest's folder when it runs xtask.
pub(crate) fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Cargo's target folder, wherever the user put it: this program lies in `<target>/<profile>/`.
pub(crate) fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.ancestors().nth(2).ok_or("cannot tell the target folder from xtask's own path")?.to_path_buf())
}

/// An address in the ready file of a service, which is one JSON object: `{"http":"127.0.0.1:34567",…}`.
pub(crate) fn ready_address(ready_file: &str, key: &str) -> Option<SocketAddr> {
    ready_file.split_once(&format!("\"{key}\""))?.1.split('"').nth(1)?.parse().ok()
}

/// A program that runs at the root, without input.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root()).stdin(Stdio::null());
    command
}

/// The cargo that started this xtask.
pub(crate) fn cargo<I, S>(arguments: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut cargo = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(arguments);
    cargo
}

/// Runs it with its output passed through; anything but exit code 0 is an error that quotes the command.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|error| format!("cannot start `{}`: {error}", spell(command)))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` ended with {status}", spell(command)).into()) }
}

/// Runs it and gives what it printed on stdout.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot start `{}`: {error}", spell(command)))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!("`{}` ended with {}", spell(command), output.status).into())
    }
}

/// Runs it without a word on the terminal; a failure quotes the command, its exit code and the end of its output.
pub(crate) fn quiet(command: &mut Command) -> Result<()> {
    let output = command.output().map_err(|error| format!("cannot start `{}`: {error}", spell(command)))?;
    if output.status.success() { Ok(()) } else { Err(failure(command, &output).into()) }
}

fn failure(command: &Command, output: &Output) -> String {
    let said = [&output.stdout, &output.stderr].map(|stream| String::from_utf8_lossy(stream).into_owned()).concat();
    match tail(&said) {
        said if said.is_empty() => format!("`{}` ended with {} and said nothing", spell(command), output.status),
        said => format!("`{}` ended with {}:\n{said}", spell(command), output.status),
    }
}

/// The last lines of an output, without empty ones.
pub(crate) fn tail(said: &str) -> String {
    let lines: Vec<_> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n")
}

/// Whether it can be started and ends with 0; says nothing on the terminal. For a question, such as `--version`: of what has
/// to work, [`quiet`] gives the reason.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Whether this process may write where only root may.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The command as a person would type it.
fn spell(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    std::iter::once(program).chain(command.get_args()).map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::{command, quiet};

    #[test]
    fn a_failed_command_shows_its_output_and_code() {
        let error = quiet(command("sh").args(["-c", "echo looked; echo no such thing >&2; exit 7"])).unwrap_err();
        let error = error.to_string();
        assert!(
            ["`sh -c", "exit status: 7", "looked", "no such thing"].iter().all(|part| error.contains(part)),
            "{error}"
        );
        let error = quiet(&mut command("no-such-program")).unwrap_err().to_string();
        assert!(error.starts_with("cannot start `no-such-program`"), "{error}");
    }
}
