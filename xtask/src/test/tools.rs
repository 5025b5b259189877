//! The programs that the tests start: found, installed, or reported in one line as missing.

use std::fs;
use std::path::{Path, PathBuf};

use crate::shell::{self, cargo, command, succeeds};
use crate::{Result, consul, templates};

use super::{Run, apt, cache};

/// The Python with grpcio that the tests of foreign clients start. Without the prefix of the service's own settings:
/// a service under test would refuse a `CHASSIS_` variable that it does not know.
const PYTHON_VARIABLE: &str = "XTASK_PYTHON";
/// The promtool that checks the metrics page.
const PROMTOOL_VARIABLE: &str = "XTASK_PROMTOOL";
/// The folder of the programs of a PostgreSQL server; the tests of `examples/orders` make clusters of their own.
const POSTGRES_VARIABLE: &str = "XTASK_POSTGRES";
/// The Consul that the tests of discovery start agents of.
const CONSUL_VARIABLE: &str = "XTASK_CONSUL";

/// The folder with what the tests start in Node.js: openapi-typescript and the TypeScript compiler. Absent without npm.
const NODE_VARIABLE: &str = "XTASK_NODE";
/// Their versions; the folder is filled again when they change.
const NODE_PACKAGES: [&str; 2] = ["openapi-typescript@7.13.0", "typescript@5.9.3"];

/// Versions of the foreign client; the environment is built again when they change.
const PYTHON_REQUIREMENTS: &str = include_str!("../../python-requirements.txt");

/// A program that Debian packages bring.
struct Packaged {
    what: &'static str,
    works: fn() -> bool,
    packages: &'static [&'static str],
}

const PACKAGED: &[Packaged] = &[
    Packaged { what: "a C compiler", works: || has("cc"), packages: &["gcc", "libc6-dev"] },
    // tidy and the templates ask it for the files of a clone.
    Packaged { what: "git", works: || has("git"), packages: &["git"] },
    // The README's lines are run as they stand there.
    Packaged { what: "curl", works: || has("curl"), packages: &["curl"] },
    // Debian's python3 comes without the module that fills a virtual environment.
    Packaged { what: "python3 with venv", works: || interpreter().is_some(), packages: &["python3", "python3-venv"] },
    Packaged { what: "a PostgreSQL server", works: || postgres().is_some(), packages: &["postgresql"] },
    // For the build of cargo-generate.
    Packaged {
        what: "pkg-config with OpenSSL's headers",
        works: || templates::has_generator() || has_openssl(),
        packages: &["pkg-config", "libssl-dev"],
    },
];

pub(super) fn find(run: &mut Run) -> Result<()> {
    let mut missing = Vec::new();
    for (component, arguments) in [("rustfmt", ["fmt", "--version"]), ("clippy", ["clippy", "--version"])] {
        if !succeeds(&mut cargo(arguments)) {
            missing.push(format!("{component} is missing; type rustup component add {component}"));
        }
    }
    if let Err(error) = packaged(PACKAGED, apt::install) {
        missing.push(error.to_string());
    }
    if let Some(bin) = postgres() {
        run.variables.push((POSTGRES_VARIABLE, bin.into()));
    }
    match promtool() {
        Ok(promtool) => run.variables.push((PROMTOOL_VARIABLE, promtool.into())),
        Err(error) => missing.push(format!("promtool is missing; put one on the path, or mend this: {error}")),
    }
    match consul::find(&cache()) {
        Ok(consul) => run.variables.push((CONSUL_VARIABLE, consul.into())),
        Err(error) => missing.push(format!("consul is missing; put one on the path, or mend this: {error}")),
    }
    if missing.is_empty() { Ok(()) } else { Err(missing.join("\n  ").into()) }
}

/// Installs all packages of what does not work in one go. An error names everything that is missing, and one line to type.
fn packaged(programs: &[Packaged], install: impl FnOnce(&[&str]) -> Result<()>) -> Result<()> {
    let missing = || programs.iter().filter(|program| !(program.works)()).collect::<Vec<_>>();
    let before = missing();
    if before.is_empty() {
        return Ok(());
    }
    let packages: Vec<_> = before.iter().flat_map(|program| program.packages).copied().collect();
    let outcome = install(&packages);
    let after = missing();
    if after.is_empty() {
        return Ok(());
    }
    let what = after.iter().map(|program| program.what).collect::<Vec<_>>().join(", ");
    let packages = after.iter().flat_map(|program| program.packages).copied().collect::<Vec<_>>().join(" ");
    let why = outcome.err().map_or_else(|| "they are installed, and do not work".to_owned(), |error| error.to_string());
    Err(format!("missing: {what}; type apt-get install {packages} ({why})").into())
}

fn has(program: &str) -> bool {
    succeeds(command(program).arg("--version"))
}

/// Whether the build of a crate finds OpenSSL: by a variable of its own, or by pkg-config.
fn has_openssl() -> bool {
    std::env::var_os("OPENSSL_DIR").is_some() || succeeds(command("pkg-config").args(["--exists", "openssl"]))
}

/// promtool from the path, or taken out of Debian's package: the installed package would start a Prometheus server.
fn promtool() -> Result<PathBuf> {
    let unpacked = cache().join("prometheus");
    let inside = unpacked.join("usr/bin/promtool");
    let works = |path: &Path| succeeds(command(path).arg("--version"));
    if let Some(found) = [PathBuf::from("promtool"), inside.clone()].into_iter().find(|path| works(path)) {
        return Ok(found);
    }
    println!("taking promtool out of Debian's package prometheus");
    apt::unpack("prometheus", &unpacked)?;
    shell::quiet(command(&inside).arg("--version"))?;
    Ok(inside)
}

/// The programs of the newest PostgreSQL: Debian keeps those of a server outside of the path.
fn postgres() -> Option<PathBuf> {
    let on_path = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let version = |name: &str| name.parse::<u32>().ok();
    let mut debian: Vec<_> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((version(entry.file_name().to_str()?)?, entry.path().join("bin"))))
        .collect();
    debian.sort();
    let debian = debian.into_iter().rev().map(|(_, bin)| bin);
    on_path.unwrap_or_default().into_iter().chain(debian).find(|bin| bin.join("initdb").exists())
}

/// A Python that makes virtual environments.
fn interpreter() -> Option<&'static str> {
    ["python3", "python"].into_iter().find(|name| succeeds(command(name).args(["-c", "import venv, ensurepip"])))
}

/// A virtual environment with the pinned gRPC client.
pub(super) fn python(run: &mut Run) -> Result<()> {
    let folder = cache().join("py");
    let python = folder.join("bin/python");
    let stamp = folder.join("requirements.txt");
    let imports = "import dnslib, grpc, grpc_health.v1.health_pb2, grpc_reflection.v1alpha.reflection_pb2, openapi_python_client, openapi_spec_validator, schemathesis";
    let current = fs::read_to_string(&stamp).is_ok_and(|installed| installed == PYTHON_REQUIREMENTS);
    if !(current && succeeds(command(&python).args(["-c", imports]))) {
        // A failed attempt or another Python version may have left a part of one.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(cache())?;
        let interpreter =
            interpreter().ok_or("python3 with venv is missing; type apt-get install python3 python3-venv")?;
        shell::quiet(command(interpreter).args(["-m", "venv"]).arg(&folder))?;
        let requirements = shell::root().join("xtask/python-requirements.txt");
        let options =
            ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--only-binary", ":all:"];
        shell::run(command(&python).args(options).arg("--requirement").arg(requirements))?;
        shell::run(command(&python).args(["-c", imports]))?;
        fs::write(stamp, PYTHON_REQUIREMENTS)?;
    }
    run.variables.push((PYTHON_VARIABLE, python.into()));
    Ok(())
}

/// The packages of Node.js, where npm is; one line says so where it is not.
pub(super) fn node(run: &mut Run) -> Result<()> {
    let folder = cache().join("node");
    let (stamp, wanted) = (folder.join("packages.txt"), NODE_PACKAGES.join("\n"));
    if !fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        if !(has("npm") && has("node")) {
            println!(
                "npm is missing, so the document is not tried with openapi-typescript; apt-get install npm brings it"
            );
            return Ok(());
        }
        fs::create_dir_all(&folder)?;
        let options = ["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"];
        shell::run(command("npm").args(options).arg(&folder).args(NODE_PACKAGES))?;
        fs::write(stamp, wanted)?;
    }
    run.variables.push((NODE_VARIABLE, folder.into()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAMS: &[Packaged] = &[
        Packaged { what: "a shell", works: || succeeds(command("sh").args(["-c", "true"])), packages: &["dash"] },
        Packaged { what: "a tool", works: || has("no-such-tool"), packages: &["tool", "libtool-dev"] },
        Packaged { what: "another", works: || has("no-such-other"), packages: &["other"] },
    ];

    #[test]
    fn all_that_is_missing_is_said_in_one_line() {
        let mut asked = Vec::new();
        let error = packaged(PROGRAMS, |packages| {
            asked = packages.iter().map(|package| (*package).to_owned()).collect();
            Err("only root installs packages".into())
        })
        .unwrap_err();
        assert_eq!(asked, ["tool", "libtool-dev", "other"]);
        assert_eq!(
            error.to_string(),
            "missing: a tool, another; type apt-get install tool libtool-dev other (only root installs packages)"
        );
    }

    #[test]
    fn nothing_is_installed_when_everything_works() {
        packaged(&PROGRAMS[..1], |_| unreachable!("it works")).unwrap();
    }
}
