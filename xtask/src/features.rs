//! `cargo xtask features`: every cargo feature of the chassis has a meaning, and builds alone, with none and with all.
//!
//! Cargo unites the features of all that is built together, so a workspace whose members want different ones never sees what a
//! user of one feature sees.

use std::collections::BTreeSet;
use std::fs;
use std::time::Instant;

use crate::{Result, shell};

const MANIFEST: &str = "chassis/Cargo.toml";
const PACKAGE: &str = "chassis-rs";

/// One feature, as the manifest has it.
#[derive(Debug, PartialEq, Eq)]
struct Feature {
    name: String,
    /// The comment above it.
    meaning: String,
    default: bool,
}

/// Builds each alone, none and all, and lets clippy look.
pub(crate) fn run() -> Result<()> {
    let features = read()?;
    let mut sets: Vec<(String, Vec<String>)> = vec![
        ("none".to_owned(), vec!["--no-default-features".to_owned()]),
        ("the default".to_owned(), Vec::new()),
        ("all".to_owned(), vec!["--all-features".to_owned()]),
    ];
    for feature in &features {
        let alone = ["--no-default-features", "--features", feature.name.as_str()];
        sets.push((format!("{} alone", feature.name), alone.map(str::to_owned).to_vec()));
    }
    let mut times = Vec::new();
    for (name, arguments) in &sets {
        println!("==> {name}");
        let started = Instant::now();
        let lint = ["clippy", "--quiet", "--locked", "--package", PACKAGE, "--lib"];
        let mut clippy = shell::cargo(lint);
        shell::run(clippy.args(arguments).args(["--", "-D", "warnings"]))?;
        times.push((name, started.elapsed()));
    }
    println!();
    for (name, time) in times {
        println!("{name:<20} {:>7.1} s", time.as_secs_f64());
    }
    Ok(())
}

/// The page of the reference, Markdown.
pub(crate) fn reference_markdown() -> Result<String> {
    let features = read()?;
    let base = crates(&["--no-default-features"])?;
    let mut page = format!(
        "# Cargo features\n\n\
         What is compiled into the library beside its core. Everything else is a setting: a feature is for what needs crates of\n\
         its own. The core alone, `default-features = false`, is {} crates, the chassis among them. Crates are those that the\n\
         feature adds to them, counted in the lock file of this repository for Linux; of two features that share crates each has\n\
         them all.\n\n\
         | feature | default | crates | meaning |\n|---|---|---|---|\n",
        base.len()
    );
    for Feature { name, meaning, default } in &features {
        let with = crates(&["--no-default-features", "--features", name])?;
        let (added, default) = (with.difference(&base).count(), if *default { "yes" } else { "no" });
        // The manifest names a record by its path from the root.
        let meaning = meaning.replace("(docs/decisions/", "([why](../decisions/").replace(".md)", ".md))");
        page.push_str(&format!("| `{name}` | {default} | {added} | {meaning} |\n"));
    }
    page.push_str(
        "\n```toml\n[dependencies]\nchassis = { package = \"chassis-rs\", path = \"../chassis/chassis\", features = [\"dns\", \"tls\"] }\n\n\
         [dev-dependencies]\nchassis = { package = \"chassis-rs\", path = \"../chassis/chassis\", features = [\"testing\"] }\n```\n\n\
         A target or a TLS setting that needs a feature which is not there is refused at start with the name of the feature. Without\n\
         `docs-page` there is no key `openapi.page`, so it is an unknown one; `cache` and `testing` have no settings. Each feature is\n\
         built alone, and none and all of them together, by `cargo xtask features`.\n",
    );
    Ok(page)
}

/// The crates that are compiled for the library with these features, without those of build scripts and macros.
fn crates(features: &[&str]) -> Result<BTreeSet<String>> {
    let arguments =
        ["tree", "--locked", "--package", PACKAGE, "--edges", "normal", "--prefix", "none", "--format", "{p}"];
    let target = ["--target", "x86_64-unknown-linux-gnu"];
    let printed = shell::output(shell::cargo(arguments).args(target).args(features))?;
    // A crate that stands there again is marked, and macros are.
    let name = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    let lines = String::from_utf8(printed)?;
    Ok(lines.lines().filter(|line| !line.contains("(proc-macro)")).map(name).collect())
}

fn read() -> Result<Vec<Feature>> {
    let (features, silent) = parse(&fs::read_to_string(shell::root().join(MANIFEST))?);
    match silent.as_slice() {
        [] => Ok(features),
        silent => Err(format!("{MANIFEST}: no comment says what these features are for: {}", silent.join(", ")).into()),
    }
}

/// The features in the order of the manifest, and the names of those without a comment.
fn parse(manifest: &str) -> (Vec<Feature>, Vec<String>) {
    let (mut features, mut silent, mut comment) = (Vec::new(), Vec::new(), Vec::new());
    let mut defaults = String::new();
    let section = manifest.lines().skip_while(|line| *line != "[features]").skip(1);
    for line in section.take_while(|line| !line.starts_with('[')) {
        if let Some(text) = line.strip_prefix("# ") {
            comment.push(text);
            continue;
        }
        let words = std::mem::take(&mut comment).join(" ");
        match line.split_once(" = ") {
            Some(("default", names)) => names.clone_into(&mut defaults),
            Some((name, _)) => {
                if words.is_empty() {
                    silent.push(name.to_owned());
                }
                features.push(Feature { name: name.to_owned(), meaning: words, default: false });
            }
            None => {}
        }
    }
    for feature in &mut features {
        feature.default = defaults.contains(&format!("\"{}\"", feature.name));
    }
    (features, silent)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_feature_has_the_comment_above_it_and_one_without_is_told() {
        let manifest = "[package]\nname = \"a\"\n\n[features]\ndefault = [\"tls\"]\n# Over\n# two lines.\ntls = [\"dep:x\"]\nmute = []\n\n[dependencies]\nx = \"1\"\n";
        let (features, silent) = parse(manifest);
        let told: Vec<_> = features.iter().map(|f| (f.name.as_str(), f.meaning.as_str(), f.default)).collect();
        assert_eq!(told, [("tls", "Over two lines.", true), ("mute", "", false)]);
        assert_eq!(silent, ["mute"]);
    }
}
