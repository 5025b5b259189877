//! Which projects are generated: the default answers of each template, and all answers with awkward names.

use std::fs;
use std::path::Path;
use std::time::Instant;

use super::generator::Generator;
use super::project::{Project, target};
use super::{TEMPLATES, agent, empty, note};
use crate::{Result, shell};

/// Tells how to use the templates.
const PAGE: &str = "docs/how-to/templates.md";

/// The default, as it is seen from a folder of the playground.
const HTTP: &str = "../chassis/templates/http-service";

/// Names that work: the shortest, both separators, and crates that the project has, but not as its own dependencies.
const NAMES: &[&str] = &["a", "my-svc", "svc_2", "bytes", "http"];

/// Names that are refused with a sentence that says what to type.
const REFUSED: &[&str] = &[
    "test",
    "core",
    "std",
    "proc-macro",
    "build",
    "deps",
    "fn",
    "async",
    "chassis",
    "chassis-rs",
    "serde",
    "serde_json",
    "tokio",
    "tonic",
    "thiserror",
    "7up",
    "größe",
    "a.b",
];

/// As a newcomer: from an empty folder beside a clone, with no answer given.
pub(super) fn defaults(generator: &Generator) -> Result<()> {
    for template in TEMPLATES {
        let folder = empty(&format!("{template}-defaults"))?;
        let from = format!("../chassis/templates/{template}");
        let project = made(generator, &folder, template, template, &["--path", &from])?;
        timed(&project.name, || {
            project.check()?;
            project.serve()
        })?;
    }
    documented(generator)?;
    // Without a template's name it is the first.
    let folder = empty("no-template-named")?;
    let named = made(generator, &folder, "service", TEMPLATES[0], &["--path", "../chassis"])?;
    let manifest = fs::read_to_string(named.folder.join("Cargo.toml"))?;
    expect(&manifest, &format!("template = \"{}\"", TEMPLATES[0]))
}

/// The commands of the page that need no network, as they stand there.
fn documented(generator: &Generator) -> Result<()> {
    let page = fs::read_to_string(shell::root().join(PAGE))?;
    let lines = page.lines().filter(|line| line.starts_with("cargo generate --path ../chassis"));
    let lines: Vec<_> = lines.filter(|line| !line.contains("chassis-old")).collect();
    for line in &lines {
        let folder = empty("documented")?;
        // The page makes it for its diff.
        fs::create_dir(folder.join("new"))?;
        let line = line.replace("$PWD", &folder.display().to_string());
        let words: Vec<_> = line.split_whitespace().skip(2).collect();
        let outcome = generator.run(&folder, &words)?;
        if !outcome.done {
            return Err(format!("{PAGE}: `{line}` failed:\n{}", outcome.said).into());
        }
    }
    if lines.is_empty() { Err(format!("{PAGE} has no command").into()) } else { Ok(()) }
}

pub(super) fn answers(generator: &Generator) -> Result<()> {
    refusals(generator)?;
    sources(generator)?;
    for template in TEMPLATES {
        let folder = empty(&format!("{template}-answers"))?;
        for (index, name) in NAMES.iter().enumerate() {
            let discovery = ["consul", "none"][index % 2];
            let answers = [
                "--path",
                "../chassis",
                &format!("templates/{template}"),
                "-d",
                &format!("discovery={discovery}"),
                "-d",
                r#"description=What "it" does: \ and 'more'"#,
            ];
            let project = made(generator, &folder, name, template, &answers)?;
            timed(&format!("{template} as {name}, discovery {discovery}"), || {
                project.check()?;
                project.serve()?;
                if discovery == "consul" { agent::announced(&project) } else { Ok(()) }
            })?;
        }
    }
    Ok(())
}

/// What is refused leaves no folder, and its message says what to type.
fn refusals(generator: &Generator) -> Result<()> {
    let folder = empty("refused")?;
    for name in REFUSED {
        let outcome = generator.run(&folder, &["--path", HTTP, "--silent", "--name", name])?;
        if outcome.done || !outcome.said.contains("type ") {
            return Err(format!("the name {name} is not refused with what to type:\n{}", outcome.said).into());
        }
    }
    if let Some(left) = fs::read_dir(&folder)?.next() {
        return Err(format!("a refused name left {}", left?.path().display()).into());
    }
    // The folder is made before the answers are known; the message says how to get rid of it.
    for (source, why) in [("no/such/folder", "there is no checkout"), (".", "there is no checkout")] {
        let answer = format!("chassis={source}");
        let outcome = generator.run(&folder, &["--path", HTTP, "--silent", "--name", "lost", "-d", &answer])?;
        expect(&outcome.said, why)?;
        expect(&outcome.said, &format!("type rmdir {}", folder.join("lost").display()))?;
        fs::remove_dir(folder.join("lost"))?;
    }
    println!("{} names are refused", REFUSED.len());
    Ok(())
}

/// The chassis as a path, from the note of a checkout that lies elsewhere, from git, and as a version.
fn sources(generator: &Generator) -> Result<()> {
    let folder = empty("sources")?;
    let absolute = generator.checkout.display().to_string();
    for (name, value, expected) in [
        ("relative", "../chassis", "path = \"../../chassis/chassis\"".to_owned()),
        ("absolute", &absolute, format!("path = \"{absolute}/chassis\"")),
    ] {
        let project =
            made(generator, &folder, name, "http-service", &["--path", HTTP, "-d", &format!("chassis={value}")])?;
        expect(&manifest(&project)?, &expected)?;
        shell::output(&mut project.cargo(&["metadata", "--locked", "--format-version=1"])?)?;
    }

    // A checkout of another name, whose templates know where it is.
    let elsewhere = empty("sources/elsewhere")?;
    copy(&generator.checkout.join("templates/http-service"), &elsewhere)?;
    note(&generator.checkout, &elsewhere)?;
    let noted = made(generator, &folder, "noted", "http-service", &["--path", "elsewhere"])?;
    expect(&manifest(&noted)?, &format!("path = \"{absolute}/chassis\""))?;
    noted.rendered()?;

    let (url, tag) = tagged(generator)?;
    let answer = format!("chassis={url}#{tag}");
    let git = made(generator, &folder, "from-git", "http-service", &["--path", HTTP, "-d", &answer])?;
    expect(&manifest(&git)?, &format!("git = \"{url}\", tag = \"{tag}\""))?;
    let from_tag = ["--git", &url, "--tag", &tag, "templates/http-service", "-d", &answer];
    let cloned = made(generator, &folder, "cloned", "http-service", &from_tag)?;
    expect(&manifest(&cloned)?, &format!("git = \"{url}\", tag = \"{tag}\""))?;
    cloned.rendered()?;
    timed("the chassis from git", || shell::run(&mut git.cargo(&["check", "--quiet"])?))?;

    // Not published yet: the patch stands in for the registry, and refuses a version that this is not.
    let version = made(generator, &folder, "from-registry", "http-service", &["--path", HTTP, "-d", "chassis=0.1.0"])?;
    expect(&manifest(&version)?, "chassis = { package = \"chassis-rs\", version = \"0.1.0\" }")?;
    let patch = format!("patch.crates-io.chassis-rs.path='{absolute}/chassis'");
    timed("the chassis as a version", || shell::run(&mut version.cargo(&["check", "--quiet", "--config", &patch])?))
}

/// A repository of the bare checkout with a tag, as its address and the tag.
fn tagged(generator: &Generator) -> Result<(String, String)> {
    let repository = empty("repository.git")?;
    let git = |arguments: &[&str]| {
        let mut git = shell::command("git");
        git.arg("--git-dir").arg(&repository).arg("--work-tree").arg(&generator.checkout);
        for who in ["AUTHOR", "COMMITTER"] {
            // One day for all: the same files are the same commit, and cargo keeps one copy.
            for (what, value) in [("NAME", "nobody"), ("EMAIL", "nobody@localhost"), ("DATE", "2026-01-01T00:00:00Z")] {
                git.env(format!("GIT_{who}_{what}"), value);
            }
        }
        shell::run(git.args(arguments))
    };
    git(&["init", "--quiet"])?;
    git(&["add", "--all"])?;
    git(&["commit", "--quiet", "--message", "all"])?;
    git(&["tag", "v0.1.0"])?;
    Ok((format!("file://{}", repository.display()), "v0.1.0".to_owned()))
}

fn made(
    generator: &Generator,
    folder: &Path,
    name: &str,
    template: &'static str,
    arguments: &[&str],
) -> Result<Project> {
    Ok(Project::new(generator.make(folder, name, arguments)?, name, template))
}

fn manifest(project: &Project) -> Result<String> {
    Ok(fs::read_to_string(project.folder.join("Cargo.toml"))?)
}

fn expect(text: &str, part: &str) -> Result<()> {
    if text.contains(part) { Ok(()) } else { Err(format!("expected {part:?} in:\n{text}").into()) }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    for file in super::generator::files(from)? {
        let copy = to.join(file.strip_prefix(from)?);
        fs::create_dir_all(copy.parent().unwrap_or(to))?;
        fs::copy(file, copy)?;
    }
    Ok(())
}

fn timed(what: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let started = Instant::now();
    work().map_err(|error| format!("{what}: {error}"))?;
    println!("{what}: {:.1} s (output in {})", started.elapsed().as_secs_f64(), target()?.display());
    Ok(())
}
