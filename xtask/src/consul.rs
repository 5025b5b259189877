//! The Consul that the tests run: the one on the path, or Debian 11's, unpacked without installing it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;
use crate::shell::{self, command, succeeds};

/// Debian 12 has no Consul; the package of the release before runs on it. A package's file never changes in an archive,
/// so a path and a checksum name it for good.
const PACKAGE: &str = "pool/main/c/consul/consul_1.8.7+dfsg1-2+b3_amd64.deb";
const SHA256: &str = "e4e888bba104daba1d9161f49bfc52649a7e4efd45b1a7ead5bc54f2cb9c89d9";

/// A Consul that runs; what the download needs is kept below `cache`.
pub(crate) fn find(cache: &Path) -> Result<PathBuf> {
    let folder = cache.join("consul");
    let inside = folder.join("usr/bin/consul");
    let works = |path: &Path| succeeds(command(path).arg("version"));
    if let Some(on_path) = on_path().filter(|path| works(path)) {
        return Ok(on_path);
    }
    if works(&inside) {
        return Ok(inside);
    }
    println!("taking Consul out of Debian's package");
    fs::create_dir_all(&folder)?;
    let package = folder.join("consul.deb");
    let fetched = archives()?.iter().any(|archive| fetch(archive, &package));
    if !fetched {
        return Err("no archive of this machine's apt has Debian 11's package of Consul".into());
    }
    shell::run(command("dpkg").arg("-x").arg(&package).arg(&folder))?;
    fs::remove_file(&package)?;
    if works(&inside) { Ok(inside) } else { Err(format!("{} does not run", inside.display()).into()) }
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

/// apt's own downloader: it goes where apt goes, also through a proxy, and refuses another checksum.
fn fetch(archive: &str, to: &Path) -> bool {
    let address = format!("{}/{PACKAGE}", archive.trim_end_matches('/'));
    let mut download = command("/usr/lib/apt/apt-helper");
    succeeds(download.arg("download-file").arg(address).arg(to).arg(format!("SHA256:{SHA256}")))
}
