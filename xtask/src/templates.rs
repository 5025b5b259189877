//! `cargo xtask templates`: generates projects with the real cargo-generate, as a user does from a bare checkout, and
//! builds, tests and runs them.

mod agent;
mod deny;
mod generator;
mod lint;
mod lock;
mod matrix;
mod project;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;

use crate::docs::{self, Mode};
use crate::{Result, shell};

use generator::Generator;

/// The folders of `templates/`; the first is the default.
pub(crate) const TEMPLATES: &[&str] = &["http-service", "grpc-service", "http-grpc-service"];

pub(crate) const USAGE: &str = "\
usage: cargo xtask templates [--fast | --lint | --write | --here]

           all options and sources, awkward names: generate, build, test, run, cargo-deny
  --fast   the default answers of each template; a step of cargo xtask test
  --lint   read the templates only
  --write  write the lock files of the templates from the workspace's
  --here   note in the templates where this checkout is, so that it is the default of the answer `chassis`";

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => whole(),
        ["--fast"] => fast(),
        ["--lint"] => lint::run(),
        ["--write"] => locks(&Generator::find()?, Mode::Write),
        ["--here"] => here(),
        ["--help"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => Err(USAGE.into()),
    }
}

/// What `cargo xtask test` does: the default answers.
pub(crate) fn fast() -> Result<()> {
    here()?;
    lint::run()?;
    let generator = Generator::find()?;
    locks(&generator, Mode::Check)?;
    matrix::defaults(&generator)
}

/// Whether cargo-generate needs no build, and so no headers of OpenSSL.
pub(crate) fn has_generator() -> bool {
    generator::is_installed()
}

fn whole() -> Result<()> {
    fast()?;
    matrix::answers(&Generator::find()?)
}

/// cargo-generate does not tell a template where it lies, so the checkout says so in a file that git ignores.
fn here() -> Result<()> {
    for template in TEMPLATES {
        note(&shell::root(), &shell::root().join("templates").join(template))?;
    }
    println!("the templates know that this checkout is at {}", shell::root().display());
    Ok(())
}

fn note(checkout: &Path, template: &Path) -> Result<()> {
    let path = checkout.to_str().ok_or("the path of the checkout is no UTF-8")?;
    let quoted = path.replace('\\', "\\\\").replace('"', "\\\"");
    let text = format!("// Written by `cargo xtask templates --here`.\nexport const CHECKOUT = \"{quoted}\";\n");
    Ok(fs::write(template.join("here.rhai"), text)?)
}

fn locks(generator: &Generator, mode: Mode) -> Result<()> {
    let mut stale = Vec::new();
    for template in TEMPLATES {
        let path = format!("templates/{template}/Cargo.lock.liquid");
        stale.extend(docs::settle(&path, lock::derive(generator, template)?.as_bytes(), mode)?);
    }
    docs::verdict(&stale, "templates --write")
}

/// Where projects are generated: outside of the workspace, and the same at each run, so that cargo knows them again.
pub(crate) fn playground() -> PathBuf {
    let place = shell::root().to_string_lossy().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        // FNV-1a: a name for each checkout.
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // One for each user too: what another has made there could not be removed.
    std::env::temp_dir().join(format!("chassis-templates-{}-{place:016x}", geteuid().as_raw()))
}

/// Until this process ends no other run of this checkout makes or removes anything in the playground.
fn hold() -> Result<()> {
    static HELD: OnceLock<File> = OnceLock::new();
    if HELD.get().is_some() {
        return Ok(());
    }
    fs::create_dir_all(playground())?;
    let file = File::create(playground().join("in-use.lock"))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        println!("waiting for another run of the templates in {}", playground().display());
        flock(&file, FlockOperation::LockExclusive)?;
    }
    HELD.get_or_init(|| file);
    Ok(())
}

/// An empty folder of this name in the playground.
fn empty(name: &str) -> Result<PathBuf> {
    let folder = playground().join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}
