//! A PostgreSQL server of a test's own: a new cluster in a folder of its own, on a Unix socket in it, so no port is taken.
//!
//! The tests of `examples/orders` take this file in too, so it uses the standard library alone.

use std::{
    ffi::OsStr,
    fs::File,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

/// The user that Debian's package makes, for tests that run as root: the server refuses to.
const USER: &str = "postgres";

/// A server. Dropped, it is stopped and its folder is gone.
#[derive(Debug)]
pub struct Postgres {
    bin: PathBuf,
    folder: PathBuf,
    /// The user to become, when the test is root.
    user: Option<(u32, u32)>,
}

impl Postgres {
    /// Makes a cluster and starts it.
    pub fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let bin = std::env::var_os("XTASK_POSTGRES");
        let bin =
            PathBuf::from(bin.expect("no PostgreSQL: run `cargo xtask test`, or set XTASK_POSTGRES to its bin folder"));
        // Not below the target folder: the path of a socket has 107 bytes, and another user must get there.
        let name = format!("chassis-postgres-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).expect("the folder is ours");
        let server = Self { bin, user: user(), folder };
        if let Some((user, group)) = server.user {
            chown(&server.folder, Some(user), Some(group)).expect("the folder is given away");
        }
        let data = server.data();
        server.run("initdb", ["-D", &data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]);
        server.begin();
        server
    }

    /// Starts it again after [`stop`](Self::stop), and waits until it answers.
    pub fn begin(&self) {
        let folder = self.folder.display();
        let options = format!("-k {folder} -c listen_addresses= -c fsync=off -c max_connections=50");
        let log = format!("{folder}/log");
        self.run("pg_ctl", ["start", "-w", "-D", &self.data(), "-l", &log, "-o", &options]);
    }

    /// Ends it at once; what was committed is kept.
    pub fn stop(&self) {
        self.run("pg_ctl", ["stop", "-w", "-m", "immediate", "-D", &self.data()]);
    }

    /// What a client connects to.
    pub fn url(&self) -> String {
        format!("postgres:///postgres?host={}&user={USER}", self.folder.display())
    }

    fn data(&self) -> String {
        self.folder.join("data").display().to_string()
    }

    fn run<const N: usize>(&self, program: &str, arguments: [&str; N]) {
        if let Err(why) = self.done(program, arguments) {
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            panic!("{program} {arguments:?}: {why}\nthe server's log:\n{log}");
        }
    }

    /// Why it failed: the exit status, and what it said.
    fn done<const N: usize>(&self, program: &str, arguments: [&str; N]) -> Result<(), String> {
        let program = self.bin.join(program);
        let mut command = self.command(&program);
        command.args(arguments).current_dir(&self.folder).env("LC_ALL", "C");
        // The server inherits these and keeps them: a pipe would never end.
        let said = self.folder.join("said");
        let file = || File::options().create(true).append(true).open(&said).map_err(|error| error.to_string());
        let _ = std::fs::remove_file(&said);
        command.stdin(Stdio::null()).stdout(file()?).stderr(file()?);
        let status = command.status().map_err(|error| format!("{} does not start: {error}", program.display()))?;
        match status.success() {
            true => Ok(()),
            false => Err(format!("{status}\n{}", std::fs::read_to_string(&said).unwrap_or_default())),
        }
    }

    fn command(&self, program: &Path) -> Command {
        match self.user {
            None => Command::new(program),
            Some((user, group)) => {
                let mut command = Command::new("setpriv");
                command.args([format!("--reuid={user}"), format!("--regid={group}")]);
                command.args([OsStr::new("--clear-groups"), OsStr::new("--"), program.as_os_str()]);
                command
            }
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.done("pg_ctl", ["stop", "-w", "-m", "immediate", "-D", &self.data()]);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The user and group of the package, when this is root.
fn user() -> Option<(u32, u32)> {
    let id = |arguments: &[&str]| -> Option<u32> {
        let output = Command::new("id").args(arguments).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    if id(&["-u"])? != 0 {
        return None;
    }
    Some((id(&["-u", USER])?, id(&["-g", USER])?))
}
