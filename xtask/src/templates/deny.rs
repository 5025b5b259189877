//! The real cargo-deny, as the CI of a project runs it, less the advisories: they change from day to day.

use super::generator::installed;
use super::project::Project;
use crate::{Result, shell};

/// The version that the templates are tested with; their CI takes the newest.
const VERSION: &str = "0.20.2";

/// Reads `deny.toml` and refuses what that refuses.
pub(super) fn check(project: &Project) -> Result<()> {
    let program = installed("cargo-deny", VERSION)?;
    let mut deny = shell::command(program);
    deny.current_dir(&project.folder).args(["--log-level", "error", "check", "--hide-inclusion-graph"]);
    shell::run(deny.args(["licenses", "bans", "sources"]))
}
