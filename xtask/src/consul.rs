//! The Consul that the tests run: the one on the path, or Debian 11's, unpacked without installing it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::Result;
use crate::shell::{self, command};

/// Debian 12 has no Consul; the package of the release before runs on it. A package's file never changes in an archive,
/// so a path and a checksum name it for good.
const PACKAGE: &str = "pool/main/c/consul/consul_1.8.7+dfsg1-2+b3_amd64.deb";
const SHA256: &str = "e4e888bba104daba1d9161f49bfc52649a7e4efd45b1a7ead5bc54f2cb9c89d9";

/// The architecture that the package is for, as Rust names it.
const ARCHITECTURE: &str = "x86_64";

/// A Consul that runs; what the download needs is kept below `cache`. Says which it is.
pub(crate) fn find(cache: &Path) -> Result<PathBuf> {
    let folder = cache.join("consul");
    let inside = folder.join("usr/bin/consul");
    for program in on_path().into_iter().chain([inside.clone()]) {
        if let Some(version) = version(&program) {
            println!("{version}: {}", program.display());
            return Ok(program);
        }
    }
    packaged(std::env::consts::ARCH)?;
    println!("taking Consul out of Debian's package");
    fs::create_dir_all(&folder)?;
    let package = folder.join("consul.deb");
    fetch_from(&archives()?, &package)?;
    shell::quiet(command("dpkg-deb").arg("--extract").arg(&package).arg(&folder))?;
    fs::remove_file(&package)?;
    let version = version(&inside).ok_or_else(|| format!("{} does not run", inside.display()))?;
    println!("{version}: {}", inside.display());
    Ok(inside)
}

/// Whether there is a package for this architecture.
fn packaged(architecture: &str) -> Result<()> {
    if architecture == ARCHITECTURE {
        return Ok(());
    }
    Err(format!(
        "none runs from the path, and the package that is fetched otherwise is for {ARCHITECTURE}, not {architecture}"
    )
    .into())
}

/// What it says of itself, if it runs: `Consul v1.8.7`.
fn version(program: &Path) -> Option<String> {
    let mut ask = command(program);
    let output = ask.arg("version").stderr(Stdio::null()).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.lines().next()?.to_owned())
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("consul")).find(|consul| consul.is_file())
}

/// The archives that this machine installs from, as apt is set up: no host is written here.
fn archives() -> Result<Vec<String>> {
    let mut list = command("apt-get");
    list.args(["indextargets", "--no-release-info", "--format", "$(REPO_URI)", "Created-By: Packages"]);
    let printed = String::from_utf8(shell::output(&mut list)?)?;
    let mut archives: Vec<_> = printed.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect();
    archives.sort();
    archives.dedup();
    Ok(archives)
}

/// From the first archive that has the package; an error quotes the failure of each.
fn fetch_from(archives: &[String], to: &Path) -> Result<()> {
    let mut reasons = Vec::new();
    for archive in archives {
        match fetch(archive, to) {
            Ok(()) => return Ok(()),
            Err(error) => reasons.push(format!("\n{error}")),
        }
    }
    Err(format!("no archive of this machine's apt gives Debian 11's package of Consul{}", reasons.concat()).into())
}

/// apt's own downloader: it goes where apt goes, also through a proxy, and refuses another checksum.
fn fetch(archive: &str, to: &Path) -> Result<()> {
    let address = format!("{}/{PACKAGE}", archive.trim_end_matches('/'));
    let mut download = command("/usr/lib/apt/apt-helper");
    shell::quiet(download.arg("download-file").arg(address).arg(to).arg(format!("SHA256:{SHA256}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_architecture_is_told_to_bring_its_own() {
        assert!(packaged(ARCHITECTURE).is_ok());
        let told = packaged("aarch64").unwrap_err().to_string();
        assert!(told.contains("path") && told.contains("aarch64"), "{told}");
    }

    #[test]
    fn what_does_not_run_or_says_nothing_is_no_consul() {
        assert_eq!(version(Path::new("no-such-program")), None);
        assert_eq!(version(Path::new("false")), None);
    }
}
