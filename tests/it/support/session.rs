//! A page as a person follows it: its lines in one shell, in the order in which they stand, its files written and changed.

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::pace::PATIENCE;

/// One shell; it and all it started are killed with the value.
#[derive(Debug)]
pub struct Session {
    shell: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    /// Stands for the loopback address of the page, so that its ports are nobody else's.
    address: String,
}

/// Ends what a line printed.
const MARK: &str = "--- the line has ended ---";

impl Session {
    /// A shell in this folder. Its `localhost` is an address that nobody else has: all of 127.0.0.0/8 is loopback.
    pub fn start(folder: &Path, variables: &[(&str, String)]) -> Self {
        let process = std::process::id();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let session = NEXT.fetch_add(1, Ordering::Relaxed) % 3;
        let high = 64 * (1 + session) + (process >> 16 & 63);
        let address = format!("127.{high}.{}.{}", process >> 8 & 255, process & 255);
        let mut command = Command::new("bash");
        command.arg("--norc").current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        crate::docs_readme::without_settings(&mut command);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut shell = command.spawn().expect("bash runs");
        let (say, lines) = sync_channel(10_000);
        let stdout = BufReader::new(shell.stdout.take().expect("a pipe"));
        thread::spawn(move || {
            for line in stdout.split(b'\n').map_while(Result::ok) {
                if say.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        Self { input: shell.stdin.take(), shell, lines, address }
    }

    /// The page's text, for this session.
    pub fn here(&self, text: &str) -> String {
        text.replace("localhost", &self.address).replace("127.0.0.1", &self.address)
    }

    /// Types a line and gives what it prints.
    pub fn line(&mut self, line: &str, patience: Duration) -> String {
        let typed = format!("{{ {}\n}} 2>&1\nprintf '\\n%s\\n' '{MARK}'\n", self.here(line));
        let written = self.input.as_mut().expect("open until the drop").write_all(typed.as_bytes());
        if let Err(error) = written {
            panic!("the shell reads no more ({:?}): {error}: {line}", self.shell.try_wait());
        }
        let mut printed = String::new();
        loop {
            match self.lines.recv_timeout(patience) {
                Ok(line) if line == MARK => break,
                // The shell's own word about a program that ended.
                Ok(line) if line.starts_with("bash: line ") && line.contains(" Killed ") => {}
                Ok(line) => writeln!(printed, "{line}").expect("a string"),
                Err(end) => {
                    // What the line prints on standard error is among this; the shell's own goes to the test's.
                    let shell = self.shell.try_wait();
                    panic!("{end} after {patience:?}, the shell: {shell:?}: {line}\n{printed}")
                }
            }
        }
        // The line break before the mark: what was printed may end without one.
        printed.pop();
        printed
    }

    /// A file, seen from where the shell is.
    fn file(&mut self, name: &str) -> PathBuf {
        Path::new(self.line("pwd", PATIENCE).trim_end()).join(name)
    }

    /// Writes a file of the page.
    pub fn write(&mut self, name: &str, text: &str) {
        let file = self.file(name);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        std::fs::write(file, self.here(text)).expect("a file");
    }

    /// Changes a file as a `diff` of the page says: each hunk's old lines are there once, and become the new ones.
    pub fn change(&mut self, diff: &str) {
        let name = diff.lines().find_map(|line| line.strip_prefix("+++ ")).expect("the diff names its file");
        let file = self.file(name);
        let mut text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
        let hunks = diff.split_inclusive('\n').skip_while(|line| !line.starts_with("@@")).collect::<String>();
        for hunk in hunks.split("@@\n").filter(|hunk| !hunk.is_empty()) {
            let (mut old, mut new) = (String::new(), String::new());
            for line in hunk.split_inclusive('\n') {
                let (sign, rest) = if line == "\n" { (" ", line) } else { line.split_at(1) };
                match sign {
                    " " => [&mut old, &mut new].into_iter().for_each(|side| side.push_str(rest)),
                    "-" => old.push_str(rest),
                    "+" => new.push_str(rest),
                    _ => panic!("{name}: no line of a diff: {line:?}"),
                }
            }
            assert_eq!(text.matches(&old).count(), 1, "{name} has these lines once:\n{old}\nin\n{text}");
            text = text.replacen(&old, &new, 1);
        }
        std::fs::write(file, text).expect("a file");
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.shell.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.shell.wait();
    }
}
