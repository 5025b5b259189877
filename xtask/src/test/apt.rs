//! Debian packages, installed where root runs the command.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;
use crate::shell::{self, command, is_root};

/// Read by the package `postgresql` when it is installed.
const CLUSTER_SETTINGS: &str = "/etc/postgresql-common/createcluster.d";

/// Installs these, or says why not.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    if !is_root() {
        return Err("only root installs packages".into());
    }
    update()?;
    println!("installing {}", packages.join(" "));
    let _no_server =
        packages.contains(&"postgresql").then(|| NoCluster::set(Path::new(CLUSTER_SETTINGS))).transpose()?;
    let install = ["install", "--yes", "--quiet", "--no-install-recommends"];
    shell::quiet(command("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(install).args(packages))
}

/// Fetches the package lists: a new machine has none.
fn update() -> Result<()> {
    shell::quiet(command("apt-get").args(["update", "--quiet"]))
}

/// Unpacks a package into a folder of ours without installing it: no service is started, and root is not needed where there
/// are package lists.
pub(super) fn unpack(package: &str, into: &Path) -> Result<()> {
    fs::create_dir_all(into)?;
    let download = || shell::quiet(command("apt-get").args(["download", "--quiet", package]).current_dir(into));
    if let Err(error) = download() {
        if !is_root() {
            return Err(error);
        }
        update()?;
        download()?;
    }
    let is_package = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "deb");
    let file = fs::read_dir(into)?.flatten().map(|entry| entry.path()).find(is_package);
    let file = file.ok_or_else(|| format!("apt-get download {package} left no package in {}", into.display()))?;
    shell::quiet(command("dpkg-deb").arg("--extract").arg(&file).arg(into))?;
    Ok(fs::remove_file(file)?)
}

/// A note for the package `postgresql`, which would make a cluster and start its server otherwise, now and after each boot. The
/// tests make clusters of their own. Dropped, the note is gone.
struct NoCluster(PathBuf);

impl NoCluster {
    fn set(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let file = folder.join("xtask-no-main-cluster.conf");
        fs::write(&file, "create_main_cluster = false\n")?;
        Ok(Self(file))
    }
}

impl Drop for NoCluster {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
