//! `cargo xtask test`: everything CI checks, in one order, with the time of each step.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::docs::{self, Mode};
use crate::shell::{self, cargo, command, is_root, succeeds};
use crate::{Result, consul, generate, templates, tidy};

/// The Python with grpcio that the tests of foreign clients start. Without the prefix of the service's own settings:
/// a service under test would refuse a `CHASSIS_` variable that it does not know.
const PYTHON_VARIABLE: &str = "XTASK_PYTHON";
/// The promtool that checks the metrics page.
const PROMTOOL_VARIABLE: &str = "XTASK_PROMTOOL";
/// The folder of the programs of a PostgreSQL server; the tests of `examples/orders` make clusters of their own.
const POSTGRES_VARIABLE: &str = "XTASK_POSTGRES";
/// The Consul that the tests of discovery start agents of.
const CONSUL_VARIABLE: &str = "XTASK_CONSUL";

/// The folder that the templates were tried in; the tutorial goes on from there.
const PLAYGROUND_VARIABLE: &str = "XTASK_PLAYGROUND";

/// Versions of the foreign client; the environment is built anew when they change.
const PYTHON_REQUIREMENTS: &str = include_str!("../python-requirements.txt");

/// What the tests get from the steps before them.
#[derive(Default)]
struct Tools {
    variables: Vec<(&'static str, OsString)>,
}

type Step = (&'static str, fn(&mut Tools) -> Result<()>);

const STEPS: &[Step] = &[
    ("tools", tools),
    ("python", |tools| {
        tools.variables.push((PYTHON_VARIABLE, python_client()?.into()));
        Ok(())
    }),
    ("fmt", |_| shell::run(&mut cargo(["fmt", "--all", "--", "--check"]))),
    ("clippy", |_| {
        let lint = ["clippy", "--workspace", "--all-targets", "--all-features", "--locked", "--", "-D", "warnings"];
        shell::run(&mut cargo(lint))
    }),
    ("build examples", |_| build_examples()),
    ("test", |tools| {
        shell::run(cargo(["test", "--workspace", "--locked"]).envs(tools.variables.iter().map(|(k, v)| (k, v))))
    }),
    ("docs", |_| shell::run(cargo(["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-D warnings"))),
    ("tidy", |_| tidy::run()),
    ("generated pages", |_| docs::run(Mode::Check)),
    ("generated code", |_| generate::run(Mode::Check)),
    ("templates", |_| templates::fast()),
    // Behind the templates: it generates from one, and finds their dependencies built.
    ("tutorial", |_| {
        let follow = ["test", "--locked", "--workspace", "--test", "it", "--", "--ignored", "docs_tutorials"];
        shell::run(cargo(follow).env(PLAYGROUND_VARIABLE, templates::playground()))
    }),
];

pub(crate) fn run() -> Result<()> {
    let mut tools = Tools::default();
    let mut times = Vec::new();
    for (name, step) in STEPS {
        println!("\n==> {name}");
        let started = Instant::now();
        let outcome = step(&mut tools);
        times.push((*name, started.elapsed()));
        if let Err(error) = outcome {
            report(&times);
            return Err(format!("step `{name}` failed: {error}").into());
        }
    }
    report(&times);
    println!("everything CI checks has passed");
    Ok(())
}

fn report(times: &[(&str, Duration)]) {
    println!();
    for (name, time) in times {
        println!("{name:<16} {:>7.1} s", time.as_secs_f64());
    }
}

fn tools(tools: &mut Tools) -> Result<()> {
    let mut missing = Vec::new();
    for (component, arguments) in [("rustfmt", ["fmt", "--version"]), ("clippy", ["clippy", "--version"])] {
        if !succeeds(&mut cargo(arguments)) {
            missing.push(format!("{component} is missing; type rustup component add {component}"));
        }
    }
    if !succeeds(command("cc").arg("--version")) && !apt_install(&["gcc", "libc6-dev"]) {
        missing.push("a C compiler is missing; type apt-get install gcc libc6-dev".to_owned());
    }
    // tidy and the templates ask it what a clone has.
    if !succeeds(command("git").arg("--version")) && !apt_install(&["git"]) {
        missing.push("git is missing; type apt-get install git".to_owned());
    }
    // The README's lines are run as they stand there.
    if !succeeds(command("curl").arg("--version")) && !apt_install(&["curl"]) {
        missing.push("curl is missing; type apt-get install curl".to_owned());
    }
    match promtool() {
        Some(promtool) => tools.variables.push((PROMTOOL_VARIABLE, promtool.into())),
        None => missing.push("promtool is missing; type apt-get install prometheus".to_owned()),
    }
    match postgres().or_else(|| apt_install(&["postgresql"]).then(postgres)?) {
        Some(bin) => tools.variables.push((POSTGRES_VARIABLE, bin.into())),
        None => missing.push("a PostgreSQL server is missing; type apt-get install postgresql".to_owned()),
    }
    match consul::find(&cache()) {
        Ok(consul) => tools.variables.push((CONSUL_VARIABLE, consul.into())),
        Err(error) => missing.push(format!("consul is missing ({error}); put one on the path")),
    }
    if missing.is_empty() { Ok(()) } else { Err(missing.join("\n  ").into()) }
}

/// promtool from the path, or taken out of Debian's package without installing it: the installed package would start
/// a Prometheus server, and this way needs no root.
fn promtool() -> Option<PathBuf> {
    let unpacked = cache().join("prometheus");
    let inside = unpacked.join("usr/bin/promtool");
    let works = |path: &Path| succeeds(command(path).arg("--version"));
    if let Some(found) = [PathBuf::from("promtool"), inside.clone()].into_iter().find(|path| works(path)) {
        return Some(found);
    }
    println!("taking promtool out of Debian's package prometheus");
    fs::create_dir_all(&unpacked).ok()?;
    let download = || succeeds(command("apt-get").args(["download", "prometheus"]).current_dir(&unpacked));
    if !(download() || apt_update() && download()) {
        return None;
    }
    let package = fs::read_dir(&unpacked).ok()?.flatten().map(|entry| entry.path());
    let package = package.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "deb"))?;
    let extracted = succeeds(command("dpkg-deb").arg("--extract").arg(&package).arg(&unpacked));
    (extracted && works(&inside)).then_some(inside)
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

/// A virtual environment with the pinned gRPC client; gives its Python.
fn python_client() -> Result<PathBuf> {
    let folder = cache().join("py");
    let python = folder.join("bin/python");
    let stamp = folder.join("requirements.txt");
    let imports = "import dnslib, grpc, grpc_health.v1.health_pb2, grpc_reflection.v1alpha.reflection_pb2, openapi_spec_validator, schemathesis";
    let current = fs::read_to_string(&stamp).is_ok_and(|installed| installed == PYTHON_REQUIREMENTS);
    if current && succeeds(command(&python).args(["-c", imports])) {
        return Ok(python);
    }
    let make = || {
        // What a failed attempt or another Python version left is of no use.
        let _ = fs::remove_dir_all(&folder);
        ["python3", "python"].iter().any(|name| succeeds(command(name).args(["-m", "venv"]).arg(&folder)))
    };
    fs::create_dir_all(cache())?;
    // Debian's python3 comes without the module that fills a virtual environment.
    if !(make() || apt_install(&["python3", "python3-venv"]) && make()) {
        return Err("python3 with venv is missing; type apt-get install python3 python3-venv".into());
    }
    let requirements = shell::root().join("xtask/python-requirements.txt");
    let options =
        ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--only-binary", ":all:"];
    shell::run(command(&python).args(options).arg("--requirement").arg(requirements))?;
    shell::run(command(&python).args(["-c", imports]))?;
    fs::write(stamp, PYTHON_REQUIREMENTS)?;
    Ok(python)
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

/// What downloads leave between runs; git ignores it.
fn cache() -> PathBuf {
    shell::root().join(".cache")
}

/// Installs Debian packages where that can be done without asking anybody.
fn apt_install(packages: &[&str]) -> bool {
    if !apt_update() {
        return false;
    }
    println!("installing {}", packages.join(" "));
    let install = ["install", "--yes", "--quiet", "--no-install-recommends"];
    shell::run(command("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(install).args(packages)).is_ok()
}

/// A new machine has no package lists at all.
fn apt_update() -> bool {
    is_root() && succeeds(command("apt-get").arg("update"))
}

#[cfg(test)]
mod tests {
    use super::features_of_chassis;

    #[test]
    fn features_of_the_program_count_and_those_of_its_tests_do_not() {
        let plain = "[dependencies]\naxum.workspace = true\nchassis.workspace = true\n";
        let tested =
            format!("{plain}\n[dev-dependencies]\nchassis = {{ workspace = true, features = [\"testing\"] }}\n");
        let cached = "[dependencies]\nchassis = { workspace = true, features = [\"cache\"] }\n";
        assert_eq!(features_of_chassis(&tested), features_of_chassis(plain));
        assert_ne!(features_of_chassis(cached), features_of_chassis(plain));
    }
}
