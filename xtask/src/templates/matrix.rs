//! Which projects are generated: the default answers of each template, and all answers with awkward names.

use std::fs;
use std::path::Path;
use std::time::Instant;

use super::generator::{Generator, Outcome};
use super::project::Project;
use super::{TEMPLATES, agent, deny, empty, note};
use crate::new::{self, Answers};
use crate::{Result, shell};

/// Tells how to use the templates.
const PAGE: &str = "docs/how-to/templates.md";

/// The default, as it is seen from a folder of the playground.
const HTTP: &str = "../chassis/templates/http-service";
const BOTH: &str = "../chassis/templates/http-grpc-service";

/// Names that work: the shortest, both separators, and crates that the project has, but not as its own dependencies.
const NAMES: &[&str] = &["a", "my-svc", "svc_2", "bytes", "http"];

/// What is said of names that are refused, each with what to type.
const NO_NAME: &str = "is no name of a package";
const A_CRATE: &str = "is the name of a crate";
const TAKEN: &str = "is taken by Rust or cargo";

/// Names that are refused, and why. cargo-generate makes kebab case of capitals, so they are no way around.
const REFUSED: &[(&str, &str)] = &[
    ("test", TAKEN),
    ("core", TAKEN),
    ("std", TAKEN),
    ("proc-macro", TAKEN),
    ("build", TAKEN),
    ("deps", TAKEN),
    ("fn", TAKEN),
    ("async", TAKEN),
    ("Test", TAKEN),
    ("STD", TAKEN),
    ("ProcMacro", TAKEN),
    ("chassis", A_CRATE),
    ("chassis-rs", A_CRATE),
    ("serde", A_CRATE),
    ("serde_json", A_CRATE),
    ("tokio", A_CRATE),
    ("tonic", A_CRATE),
    ("thiserror", A_CRATE),
    ("Tokio", A_CRATE),
    ("SerdeJson", A_CRATE),
    ("7up", NO_NAME),
    ("größe", NO_NAME),
    ("a.b", NO_NAME),
];

/// A description with what has to be escaped in TOML.
const AWKWARD: &str = "What \"it\" does:\r\\ and\u{7} 'more'";

/// `cargo xtask new` makes the same project, byte for byte.
fn same(generator: &Generator, project: &Project, template: &str, change: &dyn Fn(&mut Answers)) -> Result<()> {
    let own = empty("made-by-xtask")?;
    let mut answers = Answers { template: template.to_owned(), git: false, ..Answers::new(&project.name, &own) };
    // Where cargo-generate has found it: beside the folder of the project.
    answers.chassis = "../chassis".to_owned();
    change(&mut answers);
    let made = new::make(&generator.checkout, &answers)?;
    let list = |folder: &Path| -> Result<Vec<_>> {
        let files = super::generator::files(folder)?;
        Ok(files.iter().filter_map(|file| file.strip_prefix(folder).ok().map(Path::to_owned)).collect())
    };
    let (these, those) = (list(&made)?, list(&project.folder)?);
    if these != those {
        return Err(format!("cargo xtask new makes other files than cargo-generate: {these:?}, {those:?}").into());
    }
    for file in these {
        if fs::read(made.join(&file))? != fs::read(project.folder.join(&file))? {
            return Err(format!("cargo xtask new makes another {} than cargo-generate", file.display()).into());
        }
    }
    println!("cargo xtask new makes the same {template}");
    Ok(())
}

/// As a newcomer: from an empty folder beside a clone, with no answer given.
pub(super) fn defaults(generator: &Generator) -> Result<()> {
    for template in TEMPLATES {
        let folder = empty(&format!("{template}-defaults"))?;
        let from = format!("../chassis/templates/{template}");
        let project = made(generator, &folder, template, template, &["--path", &from])?;
        same(generator, &project, template, &|_| {})?;
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

/// The commands of the page that need no network, as they stand there, beside a clone that is named `chassis`.
fn documented(generator: &Generator) -> Result<()> {
    let page = fs::read_to_string(shell::root().join(PAGE))?;
    let here = |line: &&str| {
        let path = line.split_once("cargo generate --path chassis").map(|(_, rest)| rest);
        path.is_some_and(|rest| rest.starts_with(['/', ' ']))
    };
    let lines: Vec<_> = page.lines().filter(here).collect();
    for line in &lines {
        let folder = empty("documented")?;
        std::os::unix::fs::symlink(&generator.checkout, folder.join("chassis"))?;
        let (before, arguments) = line.split_once("cargo generate ").ok_or("a line without a command")?;
        let words: Vec<_> = arguments.split_whitespace().collect();
        if let Some([_, destination]) = words.windows(2).find(|pair| pair[0] == "--destination") {
            fs::create_dir_all(folder.join(destination))?;
        }
        let outcome = match before.trim().split_once('=') {
            Some(variable) => generator.run_with(&folder, &words, &[variable])?,
            None => generator.run(&folder, &words)?,
        };
        if !outcome.done {
            return Err(format!("{PAGE}: `{line}` failed:\n{}", outcome.said).into());
        }
    }
    if !lines.iter().any(|line| line.starts_with("USER=")) {
        return Err(format!("{PAGE} does not say what to type where nobody has a name").into());
    }
    // What that line is for. When this works some day, the line and the sentence around it can go.
    let nameless = empty("nameless")?;
    let outcome = generator.run_with(&nameless, &["--path", HTTP, "--silent", "--name", "nameless"], &[])?;
    expect(&outcome.said, "could not determine the current user")
}

pub(super) fn answers(generator: &Generator) -> Result<()> {
    refusals(generator)?;
    sources(generator)?;
    for (turn, template) in TEMPLATES.iter().enumerate() {
        let folder = empty(&format!("{template}-answers"))?;
        for (index, name) in NAMES.iter().enumerate() {
            // Each name with one answer in one template, and with the other in the next.
            let discovery = ["consul", "none"][(index + turn) % 2];
            let answers = [
                "--path",
                "../chassis",
                &format!("templates/{template}"),
                "-d",
                &format!("discovery={discovery}"),
                "-d",
                &format!("description={AWKWARD}"),
            ];
            let project = made(generator, &folder, name, template, &answers)?;
            same(generator, &project, template, &|own| {
                own.discovery = discovery.to_owned();
                own.description = AWKWARD.to_owned();
            })?;
            timed(&format!("{template} as {name}, discovery {discovery}"), || {
                project.check()?;
                project.serve()?;
                if index == 0 {
                    deny::check(&project)?;
                }
                if discovery == "consul" { agent::announced(&project) } else { Ok(()) }
            })?;
        }
    }
    Ok(())
}

/// What is refused leaves no folder, and its message says what to type.
fn refusals(generator: &Generator) -> Result<()> {
    let folder = empty("refused")?;
    for (name, why) in REFUSED {
        for force in [&[][..], &["--force"]] {
            let arguments = [&["--path", HTTP, "--silent", "--name", name], force].concat();
            refused(&generator.run(&folder, &arguments)?, &[why, "; type the same with "])?;
        }
    }
    if let Some(left) = fs::read_dir(&folder)?.next() {
        return Err(format!("a refused name left {}", left?.path().display()).into());
    }

    // From here on the folder is made before what is wrong is known; the message says how to get rid of it.
    let folder = empty("refused here")?;
    let made = |name: &str| format!("type rmdir '{}', then the same with ", folder.join(name).display());
    // Not `--silent`, which wants a name; the answers leave nothing else to ask.
    let answers = ["-d", "description=x", "-d", "discovery=none", "-d", "chassis=checkout"];
    let unnamed = [&["--path", HTTP, "--vcs=none"][..], &answers].concat();
    let asked = generator.run_with(&folder, &unnamed, &[("USER", "somebody"), (NAME_ASKED_FOR, "Tokio")])?;
    refused(&asked, &[A_CRATE, &made("tokio")])?;
    for (source, why) in [
        ("no/such/folder", "there is no checkout of the chassis at "),
        (".", "there is no checkout of the chassis at "),
        ("", "the answer chassis is empty"),
        ("git@nowhere", "is no address of git"),
    ] {
        let answer = format!("chassis={source}");
        let outcome = generator.run(&folder, &["--path", HTTP, "--silent", "--name", "lost", "-d", &answer])?;
        refused(&outcome, &[why, &made("lost")])?;
        fs::remove_dir(folder.join("lost"))?;
    }
    // Nobody is told to remove a folder of their own.
    let own = folder.join("own");
    fs::create_dir(&own)?;
    let template = generator.checkout.join("templates/http-service");
    let init = ["--path", utf8(&template)?, "--silent", "--name", "own", "--init", "-d", "chassis=nowhere"];
    let outcome = generator.run(&own, &init)?;
    refused(&outcome, &["; type the same with -d chassis=PATH"])?;

    // A template whose version no checkout around has, nor the one of its note.
    let template = folder.join("template");
    copy(&generator.checkout.join("templates/http-service"), &template)?;
    note(&generator.checkout, &template)?;
    let hook = template.join("source.rhai");
    let newer = fs::read_to_string(&hook)?.replace("const VERSION = \"", "const VERSION = \"99.");
    fs::write(hook, newer)?;
    let outcome = generator.run(&folder, &["--path", "template", "--silent", "--name", "far"])?;
    refused(&outcome, &["cannot tell where", &made("far"), "-d chassis=PATH", "cargo xtask templates --here"])?;
    println!("{} names are refused", REFUSED.len());
    Ok(())
}

/// The variable that stands in for what is typed when cargo-generate asks for a name.
const NAME_ASKED_FOR: &str = "CARGO_GENERATE_VALUE_PROJECT_NAME";

fn refused(outcome: &Outcome, parts: &[&str]) -> Result<()> {
    if outcome.done {
        return Err(format!("not refused, for all that {:?} was expected:\n{}", parts[0], outcome.said).into());
    }
    parts.iter().try_for_each(|part| expect(&outcome.said, part))
}

/// The chassis as a path, from the note of a checkout that lies elsewhere, from git, and as a version. What is built has
/// both transports, and so the dependencies of all templates.
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
    // It has moved since; another lies beside the project.
    note(&folder.join("moved"), &elsewhere)?;
    std::os::unix::fs::symlink(&generator.checkout, folder.join("chassis"))?;
    let moved = made(generator, &folder, "moved-away", "http-service", &["--path", "elsewhere"])?;
    expect(&manifest(&moved)?, "path = \"../chassis/chassis\"")?;

    // A relative path is seen from where the project is put, typed wherever.
    let own = empty("sources/own")?;
    let template = generator.checkout.join("templates/http-service");
    let init = ["--path", utf8(&template)?, "--init", "-d", "chassis=../chassis"];
    generator.make(&own, "own", &init)?;
    expect(&fs::read_to_string(own.join("Cargo.toml"))?, "path = \"../chassis/chassis\"")?;
    let sent = ["--path", "elsewhere", "--destination", utf8(&own)?, "-d", "chassis=../chassis"];
    generator.make(&folder, "sent", &sent)?;
    expect(&fs::read_to_string(own.join("sent/Cargo.toml"))?, "path = \"../../chassis/chassis\"")?;

    // Cargo takes no address without a scheme.
    let ssh = made(generator, &folder, "ssh", "http-service", &["--path", HTTP, "-d", "chassis=git@host:org/repo#v1"])?;
    expect(&manifest(&ssh)?, "git = \"ssh://git@host/org/repo\", tag = \"v1\"")?;
    shell::output(&mut ssh.cargo(&["metadata", "--no-deps", "--format-version=1"])?)?;

    let (url, tag) = tagged(generator)?;
    let answer = format!("chassis={url}#{tag}");
    let git = made(generator, &folder, "from-git", "http-grpc-service", &["--path", BOTH, "-d", &answer])?;
    expect(&manifest(&git)?, &format!("git = \"{url}\", tag = \"{tag}\""))?;
    let from_tag = ["--git", &url, "--tag", &tag, "templates/http-service", "-d", &answer];
    let cloned = made(generator, &folder, "cloned", "http-service", &from_tag)?;
    expect(&manifest(&cloned)?, &format!("git = \"{url}\", tag = \"{tag}\""))?;
    cloned.rendered()?;
    deny::check(&git)?;
    timed("the chassis from git", || shell::run(&mut git.cargo(&["check", "--quiet"])?))?;

    // Not published yet: the patch stands in for the registry, and refuses a version that this is not.
    let answers = ["--path", BOTH, "-d", "chassis=0.1.0"];
    let version = made(generator, &folder, "from-registry", "http-grpc-service", &answers)?;
    expect(&manifest(&version)?, "chassis = { package = \"chassis-rs\", version = \"0.1.0\" }")?;
    // As Rust writes a string, TOML does.
    let patch = format!("patch.crates-io.chassis-rs.path={:?}", format!("{absolute}/chassis"));
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
    Ok((format!("file://{}", encoded(utf8(&repository)?)), "v0.1.0".to_owned()))
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| format!("{} is no UTF-8", path.display()).into())
}

/// A path as it stands in a URL.
fn encoded(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    path.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
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
    println!("{what}: {:.1} s (output in {})", started.elapsed().as_secs_f64(), shell::target()?.display());
    Ok(())
}
