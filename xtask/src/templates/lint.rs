//! Reads the templates as they lie here: what is the same in all, which placeholders there are, which versions they name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::TEMPLATES;
use super::generator::files;
use crate::{Result, shell};

/// What is a template's own. Every other file that two templates have is the same in both.
const OWN: &[&str] = &[
    "AGENTS.md",
    "Cargo.lock.liquid",
    "Cargo.toml.liquid",
    "README.md.liquid",
    "src/api.rs",
    "src/main.rs",
    "src/tests.rs",
    "tests/socket.rs",
];

/// What cargo-generate knows of itself, of the placeholders that the templates use.
const BUILT_IN: &[&str] = &["project-name"];

/// The files of one template, by their paths in it.
type Files = BTreeMap<String, String>;

pub(super) fn run() -> Result<()> {
    let mut findings = Vec::new();
    let root = |path: &str| fs::read_to_string(shell::root().join(path));
    let workspace = root("Cargo.toml")?;
    let toolchain = root("rust-toolchain.toml")?;
    let defaults = root("docs/generated/default.toml")?;
    let version = quoted(&workspace, "version").ok_or("the workspace has no version")?;
    let mut templates = BTreeMap::new();
    for template in TEMPLATES {
        templates.insert(*template, read(&shell::root().join("templates").join(template))?);
    }
    findings.extend(twins(&templates));
    for (template, files) in &templates {
        let text = |path: &str| files.get(path).map(String::as_str).ok_or(format!("{template} has no {path}"));
        let manifest = text("Cargo.toml.liquid")?;
        let at = |finding: String| format!("templates/{template}/{finding}");
        findings.extend(placeholders(files).into_iter().map(at));
        findings.extend(dependencies(manifest, &workspace, text("name.rhai")?).into_iter().map(at));
        let shown = settings(text("config/default.toml.liquid")?, &defaults, text("src/settings.rs")?);
        findings.extend(shown.into_iter().map(at));
        if channel(text("rust-toolchain.toml")?) != channel(&toolchain) {
            findings.push(at("rust-toolchain.toml: another Rust than the workspace's".to_owned()));
        }
        findings.extend(image(text("Dockerfile")?, channel(&toolchain).unwrap_or_default()).into_iter().map(at));
        for (path, line) in [
            ("source.rhai", format!("const VERSION = \"{version}\";")),
            ("Cargo.toml.liquid", format!("template = \"{template}\"\nversion = \"{version}\"")),
            ("Cargo.toml.liquid", format!("rust-version = \"{}\"", quoted(&workspace, "rust-version").unwrap_or("?"))),
        ] {
            if !text(path)?.contains(&line) {
                findings.push(at(format!("{path}: expected {line:?}")));
            }
        }
    }
    if !root("templates/version.rhai").is_ok_and(|text| text.contains(&format!("VERSION = \"{version}\""))) {
        findings.push(format!("templates/version.rhai: expected {version}"));
    }
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() { Ok(()) } else { Err(format!("{} finding(s) in the templates", findings.len()).into()) }
}

fn read(folder: &Path) -> Result<Files> {
    let mut texts = Files::new();
    for file in files(folder)? {
        let path = file.strip_prefix(folder)?.to_string_lossy().into_owned();
        // Each checkout has its own.
        if path != "here.rhai" {
            texts.insert(path, fs::read_to_string(&file)?);
        }
    }
    Ok(texts)
}

/// Files that ought to be the same and are not.
fn twins(templates: &BTreeMap<&str, Files>) -> Vec<String> {
    let mut first: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    let mut findings = Vec::new();
    for (template, files) in templates {
        for (path, text) in files.iter().filter(|(path, _)| !OWN.contains(&path.as_str())) {
            let (other, its) = *first.entry(path).or_insert((template, text));
            if its != text {
                findings.push(format!("templates/{template}/{path}: differs from that of {other}"));
            }
        }
    }
    findings
}

/// Placeholders that nobody declares, which cargo-generate would leave empty, and marks in files without `.liquid`.
fn placeholders(files: &Files) -> Vec<String> {
    let mut known: BTreeSet<&str> = BUILT_IN.iter().copied().collect();
    for (path, text) in files {
        for line in text.lines() {
            if path == "cargo-generate.toml" {
                known.extend(line.strip_prefix("[placeholders.").and_then(|line| line.strip_suffix(']')));
            } else if path.ends_with(".rhai") {
                known.extend(line.split_once("variable::set(\"").and_then(|(_, rest)| rest.split('"').next()));
            }
        }
    }
    let mut findings = Vec::new();
    for (path, text) in files {
        let skipped = path.starts_with(".github/") || path.ends_with(".rhai") || path == "cargo-generate.toml";
        if skipped {
            continue;
        }
        for mark in ["{{", "{%"] {
            for piece in text.split(mark).skip(1) {
                if !path.ends_with(".liquid") {
                    findings.push(format!("{path}: has {mark}, and is not called {path}.liquid"));
                    break;
                }
                let words = piece.split(['}', '%']).next().unwrap_or_default().trim_matches(['-', ' ']);
                let name = words.strip_prefix("if ").unwrap_or(words).split(' ').next().unwrap_or_default();
                if !known.contains(name) && !["else", "endif"].contains(&name) {
                    findings.push(format!("{path}: {name} is declared nowhere"));
                }
            }
        }
    }
    findings
}

/// Dependencies in other versions than the workspace's, and such that a project may be named after.
fn dependencies(manifest: &str, workspace: &str, names: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let mut section = "";
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        }
        let (true, Some((name, rest))) = (section.ends_with("dependencies]"), line.split_once(" = ")) else { continue };
        let asked = if rest.starts_with('"') { quoted(line, name) } else { inner(rest) };
        let ours = workspace.lines().find_map(|line| {
            let rest = line.strip_prefix(name)?.strip_prefix(" = ")?;
            if rest.starts_with('"') { quoted(line, name) } else { inner(rest) }
        });
        // The chassis comes from where the answers say.
        if name != "chassis" && asked != ours {
            findings.push(format!("Cargo.toml.liquid: {name} is of another version than the workspace's"));
        }
        if !names.contains(&format!("\"{}\"", name.replace('-', "_"))) {
            findings.push(format!("name.rhai: lets a project be called {name}, which is one of its dependencies"));
        }
    }
    findings
}

/// Settings that are shown in comments, and are not the chassis' own defaults or those of the project's `Settings`.
fn settings(shown: &str, defaults: &str, own: &str) -> Vec<String> {
    let ours = keys(defaults);
    let mut findings = Vec::new();
    let mut section = "";
    for line in shown.lines() {
        if line.starts_with('[') {
            section = line;
        }
        let setting = line.strip_prefix("# ").and_then(|line| line.split_once(" = "));
        // A sentence may have an = too.
        let Some((key, value)) = setting.filter(|(key, _)| !key.contains(' ')) else { continue };
        let right = match ours.get(&(section, key)) {
            _ if section == "[app]" => {
                let field = format!(" {key}: {value}");
                [".to_owned()", ",", " "].iter().any(|end| own.contains(&format!("{field}{end}")))
            }
            // What has no default is shown by an example.
            Some(default) => default.is_none_or(|default| default == value),
            None => false,
        };
        if !right {
            findings.push(format!("config/default.toml.liquid: {key} = {value} in {section} is no default"));
        }
    }
    findings
}

/// The keys of the generated list by section, each with its default if it has one.
fn keys(defaults: &str) -> BTreeMap<(&str, &str), Option<&str>> {
    let mut keys = BTreeMap::new();
    let mut section = "";
    let mut set = false;
    for line in defaults.lines() {
        if line.starts_with('[') {
            section = line;
        } else if line.starts_with("# ") {
            set = !line.starts_with("# Not set by default") && (set || line.starts_with("# Default "));
        } else if let Some((key, value)) = line.strip_prefix('#').and_then(|line| line.split_once(" = ")) {
            keys.insert((section, key), set.then_some(value));
            set = false;
        }
    }
    keys
}

/// An image that is built with another Rust than the tests, or on another Debian than it runs on.
fn image(dockerfile: &str, channel: &str) -> Option<String> {
    let from: Vec<_> = dockerfile.lines().filter(|line| line.starts_with("FROM ")).collect();
    let right = matches!(from.as_slice(), [build, run]
        if build.contains(&format!("rust:{channel}-slim-bookworm")) && run.contains("-debian12:nonroot"));
    (!right).then(|| format!("Dockerfile: expected Rust {channel} on Debian 12, and Debian 12 without root to run on"))
}

fn channel(toolchain: &str) -> Option<&str> {
    quoted(toolchain, "channel")
}

/// The first `key = "value"` at the start of a line.
fn quoted<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let line = |line: &'a str| line.strip_prefix(key)?.strip_prefix(" = \"")?.split('"').next();
    text.lines().find_map(line)
}

/// The version in an inline table.
fn inner(table: &str) -> Option<&str> {
    table.split_once("version = \"")?.1.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(texts: &[(&str, &str)]) -> Files {
        texts.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn a_file_that_two_templates_have_is_the_same_in_both() {
        let one = files(&[("Dockerfile", "a"), ("src/main.rs", "a"), ("build.rs", "a")]);
        let other = files(&[("Dockerfile", "b"), ("src/main.rs", "b")]);
        let findings = twins(&BTreeMap::from([("one", one), ("other", other)]));
        assert_eq!(findings, ["templates/other/Dockerfile: differs from that of one"]);
    }

    #[test]
    fn a_placeholder_is_declared_and_stands_in_a_liquid_file() {
        let config = ("cargo-generate.toml", "[placeholders.where]\n");
        let hook = ("source.rhai", "variable::set(\"what\", 1);\n");
        let liquid = "{{project-name}} {{ where }} {{what}} {% if where == \"x\" -%} {%- endif %} {{who}}";
        let found = placeholders(&files(&[config, hook, ("README.md.liquid", liquid), ("a.rs", "{{who}}")]));
        assert_eq!(found, ["README.md.liquid: who is declared nowhere", "a.rs: has {{, and is not called a.rs.liquid"]);
        assert_eq!(placeholders(&files(&[(".github/ci.yml", "${{ github.ref }}")])), [""; 0]);
    }

    #[test]
    fn dependencies_have_the_workspaces_versions_and_keep_their_names() {
        let workspace = "tokio = { version = \"1.50\" }\nserde = \"1.0\"\n";
        let manifest = "name = \"x\"\n[dependencies]\nchassis = { path = \"x\" }\ntokio = { version = \"1.49\" }\nserde = \"1.0\"\n";
        let found = dependencies(manifest, workspace, "\"chassis\", \"tokio\"");
        assert_eq!(
            found,
            [
                "Cargo.toml.liquid: tokio is of another version than the workspace's",
                "name.rhai: lets a project be called serde, which is one of its dependencies",
            ]
        );
    }

    #[test]
    fn a_setting_that_is_shown_is_the_default() {
        let defaults = "[http]\n\n# Where.\n# Default \"0.0.0.0:8080\". Env X.\n#address = \"0.0.0.0:8080\"\n\n\
                        # Which.\n# Not set by default. Env X.\n#host = \"\"\n";
        let own = "Self { greeting: \"Hello\".to_owned(), longest_name: 64 }";
        let shown = "[app]\n# greeting = \"Hello\"\n# longest_name = 65\n[http]\n# It listens = as it says.\n\
                     # address = \"0.0.0.0:8080\"\n# host = \"10.0.0.7\"\n# gone = 1\n";
        assert_eq!(
            settings(shown, defaults, own),
            [
                "config/default.toml.liquid: longest_name = 65 in [app] is no default",
                "config/default.toml.liquid: gone = 1 in [http] is no default",
            ]
        );
        let older = settings("[http]\n# address = \"0.0.0.0:80\"\n", defaults, own);
        assert_eq!(older.len(), 1, "{older:?}");
    }

    #[test]
    fn an_image_is_built_and_run_on_one_debian() {
        let file = |build: &str, run: &str| image(&format!("FROM rust:{build} AS build\nFROM x/cc-{run}\n"), "1.95.0");
        assert_eq!(file("1.95.0-slim-bookworm", "debian12:nonroot"), None);
        for (build, run) in [
            ("1.95.0-slim-trixie", "debian12:nonroot"),
            ("1.94.0-slim-bookworm", "debian12:nonroot"),
            ("1.95.0-slim-bookworm", "debian13:nonroot"),
            ("1.95.0-slim-bookworm", "debian12"),
        ] {
            assert!(file(build, run).is_some(), "{build} {run}");
        }
    }
}
