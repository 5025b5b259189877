//! The file that says that the service is ready and where it listens, for scripts that start it on port 0.

use std::{fs, path::PathBuf};

use super::BoundAddress;
use crate::Error;

/// Written whole when the service is ready, removed when it stops.
#[derive(Debug)]
pub(crate) struct ReadyFile(PathBuf);

impl ReadyFile {
    /// Writes `{"pid":…,"http":"…","admin":"…"}`; readers never see half of it.
    pub(crate) fn write(path: PathBuf, http: &BoundAddress, admin: Option<&BoundAddress>) -> Result<Self, Error> {
        let content = serde_json::json!({
            "pid": std::process::id(),
            "http": http.to_string(),
            "admin": admin.map(ToString::to_string),
        });
        let mut partial = path.clone().into_os_string();
        partial.push(".partial");
        fs::write(&partial, format!("{content}\n")).and_then(|()| fs::rename(&partial, &path)).map_err(|error| {
            Error::unavailable(format!("--ready-file: cannot write {}", path.display())).caused_by(error)
        })?;
        Ok(Self(path))
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
