//! The lock file that a template ships: the workspace's own versions, which the tests have seen, and no others.

use std::collections::BTreeMap;
use std::fs;

use super::{empty, generator::Generator};
use crate::{Result, shell};

/// The name of the project that the lock file is made for; no crate bears it.
const NAME: &str = "the-name-of-the-project";

pub(super) fn derive(generator: &Generator, template: &str) -> Result<String> {
    let folder = empty("lock")?;
    let project = generator.make(&folder, NAME, &["--path", &format!("../chassis/templates/{template}")])?;
    fs::copy(shell::root().join("Cargo.lock"), project.join("Cargo.lock"))?;
    // Whatever asks for the graph leaves a lock file of what is needed; the versions of the one that it finds stay.
    let mut metadata = shell::cargo(["metadata", "--quiet", "--format-version=1"]);
    shell::output(metadata.args(["--filter-platform", "x86_64-unknown-linux-gnu"]).current_dir(&project))?;
    template_of(&fs::read_to_string(project.join("Cargo.lock"))?)
}

/// With a placeholder for the project's name. Every reference names its version, so that the file can be read when the
/// project has the name of a crate in it.
fn template_of(lock: &str) -> Result<String> {
    let mut versions: BTreeMap<&str, &str> = BTreeMap::new();
    let mut name = "";
    for line in lock.lines() {
        if let Some(value) = value(line, "name") {
            name = value;
        } else if let Some(value) = value(line, "version") {
            versions.insert(name, value);
        }
    }
    let mut text = String::new();
    for line in lock.lines() {
        let reference = line.strip_prefix(" \"").and_then(|line| line.strip_suffix("\","));
        match reference {
            // With a version it stands there already: there are two.
            Some(name) if !name.contains(' ') => {
                let version = versions.get(name).ok_or_else(|| format!("the lock file has no package {name}"))?;
                text.push_str(&format!(" \"{name} {version}\",\n"));
            }
            _ => {
                text.push_str(&line.replace(NAME, "{{project-name}}"));
                text.push('\n');
            }
        }
    }
    Ok(text)
}

/// `name = "bytes"`, at the top of a package.
fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::template_of;

    #[test]
    fn every_reference_gets_its_version_and_the_project_its_placeholder() {
        let lock = "version = 4\n\n[[package]]\nname = \"bytes\"\nversion = \"1.2.0\"\n\n[[package]]\n\
                    name = \"the-name-of-the-project\"\nversion = \"0.1.0\"\ndependencies = [\n \"bytes\",\n \"syn 2.0.0\",\n]\n";
        let expected = "version = 4\n\n[[package]]\nname = \"bytes\"\nversion = \"1.2.0\"\n\n[[package]]\n\
                        name = \"{{project-name}}\"\nversion = \"0.1.0\"\ndependencies = [\n \"bytes 1.2.0\",\n \"syn 2.0.0\",\n]\n";
        assert_eq!(template_of(lock).unwrap(), expected);
        assert!(template_of("dependencies = [\n \"gone\",\n]\n").is_err());
    }
}
