//! Where the repository is and how its programs are started.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use crate::Result;

/// Lines of a failed command that its error quotes. Chosen: the reason stands in the last ones.
const QUOTED_LINES: usize = 20;
/// Lines of a followed command that may be written before they are looked at. Chosen: about a screen.
const LINES_AHEAD: usize = 64;
/// How long the output of a command that has ended may be silent before it counts as over: a process that the command
/// left behind can hold it open. Chosen.
const SILENCE: Duration = Duration::from_millis(200);

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

/// Runs it with its output passed through, both streams as one in the order in which they were written, and gives each line
/// to `look` as well.
pub(crate) fn follow(command: &mut Command, mut look: impl FnMut(&str)) -> Result<ExitStatus> {
    if io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let (reader, writer) = io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let started = command.spawn().map_err(|error| format!("cannot start `{}`: {error}", spell(command)));
    // The command holds the writing ends of the pipe, which has no end before they are closed.
    command.stdout(Stdio::inherit()).stderr(Stdio::inherit());
    let mut child = started?;
    // A command that writes faster than this prints waits, as it would for a slow terminal.
    let (lines, written) = mpsc::sync_channel(LINES_AHEAD);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
            if lines.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
    loop {
        match written.recv_timeout(SILENCE) {
            Ok(line) => {
                print!("{line}");
                look(line.trim_end());
            }
            Err(RecvTimeoutError::Timeout) if child.try_wait()?.is_none() => {}
            Err(_) => return Ok(child.wait()?),
        }
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
    use super::{command, follow, quiet};

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

    #[test]
    fn both_streams_are_followed_in_order() {
        let mut lines = Vec::new();
        let mut script = command("sh");
        script.args(["-c", "echo one; echo two >&2; echo three; exit 3"]);
        let status = follow(&mut script, |line| lines.push(line.to_owned())).unwrap();
        assert_eq!((lines.join(" ").as_str(), status.code()), ("one two three", Some(3)));
    }

    #[test]
    fn a_process_left_behind_holds_nothing_up() {
        // `cat` lives until this test closes its input, which is after the end of `follow`.
        let (input, open) = std::io::pipe().unwrap();
        let mut script = command("sh");
        script.args(["-c", "exec 3<&0; cat <&3 & echo done"]).stdin(input);
        assert!(follow(&mut script, |_| {}).unwrap().success());
        drop(open);
    }
}
