//! `cargo xtask new NAME`: makes a service from a template of this checkout, as cargo-generate does, with no further tool.
//!
//! The answers are those of the templates' `cargo-generate.toml`; `cargo xtask templates` compares what both make.

mod render;

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;

use heck::{ToKebabCase, ToSnakeCase};

use crate::{Result, shell, templates::TEMPLATES};
use render::{Values, render};

pub(crate) const USAGE: &str = "\
usage: cargo xtask new NAME [OPTIONS]

  --template NAME      http-service (the default), grpc-service or http-grpc-service
  --description TEXT   what the service is for, in a sentence
  --discovery WHERE    none (the default), or consul: where the service announces itself
  --chassis SOURCE     a version, a git URL#tag or a path; this checkout when it is not given
  --destination DIR    the folder that the project's folder is made in; that of this checkout when it is not given
  --vcs none           without a git repository of its own";

/// What the templates have for a description when nobody gives one; a test compares it with theirs.
const DESCRIPTION: &str = "A service on the chassis";

/// Files that make the project and do not go into it.
const HOOKS: [&str; 4] = ["cargo-generate.toml", "name.rhai", "source.rhai", "here.rhai"];
/// What GitHub's own placeholders stand in, so that nothing is replaced there.
const VERBATIM: &str = ".github";
/// What is left of a run in a template's folder.
const LEFT_OVER: [&str; 2] = ["target", ".git"];

/// All that is asked for a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answers {
    pub(crate) name: String,
    pub(crate) template: String,
    pub(crate) description: String,
    pub(crate) discovery: String,
    /// `checkout`, or what [`source`] reads.
    pub(crate) chassis: String,
    pub(crate) destination: PathBuf,
    pub(crate) git: bool,
}

impl Answers {
    /// The default answers for a project in this folder.
    pub(crate) fn new(name: &str, destination: &Path) -> Self {
        Self {
            name: name.to_owned(),
            template: TEMPLATES[0].to_owned(),
            description: DESCRIPTION.to_owned(),
            discovery: "none".to_owned(),
            chassis: "checkout".to_owned(),
            destination: destination.to_owned(),
            git: true,
        }
    }

    fn read(arguments: &[String], checkout: &Path) -> Result<Self> {
        let beside = checkout.parent().unwrap_or(checkout);
        let mut answers = Self::new("", beside);
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let (option, inline) = match argument.split_once('=') {
                Some((option, value)) if option.starts_with("--") => (option, Some(value.to_owned())),
                _ => (argument.as_str(), None),
            };
            if !option.starts_with('-') {
                if !answers.name.is_empty() {
                    return Err(format!("found a second name, {option:?}\n\n{USAGE}").into());
                }
                answers.name = option.to_owned();
                continue;
            }
            let value = inline.or_else(|| rest.next().cloned());
            let value = value.ok_or_else(|| format!("{option} has no value\n\n{USAGE}"))?;
            match option {
                "--template" => answers.template = value,
                "--description" => answers.description = value,
                "--discovery" => answers.discovery = value,
                "--chassis" => answers.chassis = value,
                "--destination" => answers.destination = std::path::absolute(value)?,
                "--vcs" if ["none", "git"].contains(&value.as_str()) => answers.git = value == "git",
                _ => return Err(format!("found {option} {value}\n\n{USAGE}").into()),
            }
        }
        if answers.name.is_empty() {
            return Err(USAGE.into());
        }
        Ok(answers)
    }
}

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if arguments.iter().any(|argument| argument == "--help") {
        println!("{USAGE}");
        return Ok(());
    }
    let checkout = shell::root();
    let answers = Answers::read(arguments, &checkout)?;
    let project = make(&checkout, &answers)?;
    println!("{} is a service from templates/{}", project.display(), answers.template);
    println!("type: cd '{}' && cargo run", project.display());
    Ok(())
}

/// Makes the project, and gives its folder. Nothing is written unless all answers are right.
pub(crate) fn make(checkout: &Path, answers: &Answers) -> Result<PathBuf> {
    let template = checkout.join("templates").join(&answers.template);
    if !TEMPLATES.contains(&answers.template.as_str()) {
        return Err(format!("there is no template {:?}, expected {}", answers.template, TEMPLATES.join(", ")).into());
    }
    if !["none", "consul"].contains(&answers.discovery.as_str()) {
        return Err(format!("discovery: found {:?}, expected none or consul", answers.discovery).into());
    }
    let name = name(&answers.name, &fs::read_to_string(template.join("name.rhai"))?)?;
    let project = answers.destination.join(&name);
    if project.exists() {
        return Err(format!("{} is there already; choose another name or --destination", project.display()).into());
    }
    if answers.destination.starts_with(checkout) {
        let destination = answers.destination.display();
        return Err(format!("{destination} lies in the checkout, whose workspace would take it; choose another").into());
    }
    let source = source(checkout, answers, &project)?;
    let values = Values::from([
        ("project-name", name),
        ("description", answers.description.clone()),
        ("description_toml", quoted(&answers.description)),
        ("discovery", answers.discovery.clone()),
        ("chassis_source", source),
    ]);
    let mut files = Vec::new();
    for path in files_of(&template, Path::new(""))? {
        if path.parent() == Some(Path::new("")) && HOOKS.iter().any(|hook| path.as_os_str() == *hook) {
            continue;
        }
        let bytes = fs::read(template.join(&path))?;
        let verbatim = path.components().next() == Some(Component::Normal(VERBATIM.as_ref()));
        let bytes = match String::from_utf8(bytes) {
            Ok(text) if !verbatim => {
                render(&text, &values).map_err(|why| format!("{}: {why}", path.display()))?.into_bytes()
            }
            Ok(text) => text.into_bytes(),
            Err(binary) => binary.into_bytes(),
        };
        let path = if path.extension().is_some_and(|kind| kind == "liquid") { path.with_extension("") } else { path };
        files.push((path, bytes));
    }
    for (path, bytes) in files {
        let file = project.join(path);
        fs::create_dir_all(file.parent().unwrap_or(&project))?;
        fs::write(file, bytes)?;
    }
    if answers.git {
        init(&project);
    }
    Ok(project)
}

/// A repository, unless the project lies in one. Without git there is none.
fn init(project: &Path) {
    let git = |arguments: &[&str]| {
        let mut git = shell::command("git");
        git.current_dir(project).args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        git.status().is_ok_and(|status| status.success())
    };
    if !git(&["rev-parse", "--is-inside-work-tree"]) {
        git(&["init", "--quiet"]);
    }
}

/// Every file below a folder, in order, as seen from it.
fn files_of(root: &Path, below: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true if LEFT_OVER.iter().any(|name| entry.file_name() == *name) => {}
            true => found.extend(files_of(root, &path)?),
            false => found.push(path),
        }
    }
    found.sort();
    Ok(found)
}

/// The package's name, as cargo-generate spells it; or why it cannot be one, by the lists of the template's own hook.
fn name(asked: &str, hook: &str) -> Result<String> {
    let snake = asked.to_snake_case();
    let plain = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
    };
    let name = if snake == asked { snake.clone() } else { asked.to_kebab_case() };
    if !plain(asked) || !plain(&name) {
        let taken = "it takes letters, digits, - and _, a letter first";
        return Err(format!("{asked:?} is no name of a package: {taken}; type the same with my-service").into());
    }
    let spellings = [name.replace('-', "_").to_lowercase(), snake];
    let refused = |list: &str| spellings.iter().any(|spelling| words(hook, list).any(|word| word == spelling));
    if refused("CRATES") {
        return Err(
            format!("{asked:?} is the name of a crate that the service is made with; type {name}-service").into()
        );
    }
    if refused("TAKEN") {
        return Err(format!("{asked:?} is taken by Rust or cargo; type {name}-service").into());
    }
    Ok(name)
}

/// The words of a list in the hook.
fn words<'a>(hook: &'a str, list: &str) -> impl Iterator<Item = &'a str> {
    let begin = format!("const {list} = [");
    let text = hook.split_once(&begin).map_or("", |(_, rest)| rest.split(']').next().unwrap_or_default());
    text.split('"').skip(1).step_by(2)
}

/// Text as a TOML string. Of the control characters TOML takes none as it is.
fn quoted(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c < ' ' || c == '\u{7f}' { ' ' } else { c }).collect();
    format!("\"{}\"", plain.replace('\\', "\\\\").replace('"', "\\\""))
}

/// What stands in `Cargo.toml`, of the one answer `chassis`: a path, a git URL or a version.
fn source(checkout: &Path, answers: &Answers, project: &Path) -> Result<String> {
    let answer = answers.chassis.as_str();
    if answer.is_empty() {
        return Err("the answer chassis is empty; give a version, a git URL#tag or a path, or leave it out".into());
    }
    if answer == "checkout" {
        return path(&from_project(checkout, project)?, checkout, project);
    }
    if answer.contains("://") || answer.starts_with("git@") {
        return git(answer);
    }
    if answer.starts_with(|first: char| first.is_ascii_digit()) {
        return Ok(format!("version = {}", quoted(answer)));
    }
    // A folder is seen from where the project is put, and that is the folder above it.
    let folder = if answer.starts_with('/') { answer.to_owned() } else { format!("../{answer}") };
    path(&folder, checkout, project)
}

/// The checkout as the project sees it: beside it or above it, or else where it is.
fn from_project(checkout: &Path, project: &Path) -> Result<String> {
    let beside = checkout.parent().zip(checkout.file_name());
    let text = |path: &Path| path.to_str().map(str::to_owned).ok_or("the path of the checkout is no UTF-8");
    match beside {
        Some((folder, name)) if project.parent() == Some(folder) => Ok(format!("../{}", text(Path::new(name))?)),
        _ => Ok(text(checkout)?),
    }
}

fn path(folder: &str, checkout: &Path, project: &Path) -> Result<String> {
    let there = project.join(folder);
    // `..` of a folder that is not made yet.
    let there = normal(&there);
    let (found, expected) = (version(&there), version(checkout));
    if found.is_none() {
        return Err(format!("there is no checkout of the chassis at {}; give --chassis PATH", there.display()).into());
    }
    if found != expected {
        let [found, expected] = [found, expected].map(Option::unwrap_or_default);
        let place = there.display();
        return Err(
            format!("the chassis at {place} is {found}, and this template is for {expected}; type it there").into()
        );
    }
    Ok(format!("path = {}", quoted(&format!("{folder}/chassis"))))
}

/// Without `..`; nothing need be there.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

/// The version of the chassis in this folder.
fn version(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join("templates/version.rhai")).ok()?;
    text.split_once("VERSION = \"")?.1.split('"').next().map(str::to_owned)
}

fn git(answer: &str) -> Result<String> {
    let (address, tag) = answer.split_once('#').map_or((answer, None), |(address, tag)| (address, Some(tag)));
    // What git takes without a scheme, cargo does not: git@HOST:ORG/REPO is ssh://git@HOST/ORG/REPO.
    let url = match address.split_once("://") {
        Some(_) => address.to_owned(),
        None => match address.split_once(':') {
            Some((host, path)) => format!("ssh://{host}/{path}"),
            None => {
                return Err(format!("{address} is no address of git; give --chassis ssh://git@HOST/ORG/REPO").into());
            }
        },
    };
    let tag = tag.map(|tag| format!(", tag = {}", quoted(tag))).unwrap_or_default();
    Ok(format!("git = {}{tag}", quoted(&url)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn hook() -> String {
        fs::read_to_string(shell::root().join("templates/http-service/name.rhai")).unwrap()
    }

    /// A project in a folder of its own, with these changes to the answers.
    fn made(folder: &str, change: impl FnOnce(&mut Answers)) -> Result<PathBuf> {
        let destination = std::env::temp_dir().join(format!("chassis-new-{}-{folder}", std::process::id()));
        let _ = fs::remove_dir_all(&destination);
        fs::create_dir_all(&destination)?;
        let mut answers = Answers { git: false, ..Answers::new("hello", &destination) };
        change(&mut answers);
        make(&shell::root(), &answers)
    }

    #[test]
    fn a_project_has_nothing_left_of_its_template() {
        for template in TEMPLATES {
            for discovery in ["none", "consul"] {
                let project = made(&format!("{template}-{discovery}"), |answers| {
                    answers.template = (*template).to_owned();
                    answers.discovery = discovery.to_owned();
                })
                .unwrap();
                let files = files_of(&project, Path::new("")).unwrap();
                assert!(files.len() > 15, "{files:?}");
                for file in files {
                    let name = file.display().to_string();
                    assert!(!name.ends_with(".liquid") && !name.ends_with(".rhai"), "{name}");
                    let text = fs::read_to_string(project.join(&file)).unwrap();
                    let open = ["{{", "{%"].iter().any(|mark| text.contains(mark));
                    assert_eq!(open, name == ".github/workflows/ci.yml", "{name}");
                }
                let manifest = fs::read_to_string(project.join("Cargo.toml")).unwrap();
                assert!(manifest.contains("name = \"hello\"") && manifest.contains("path = \"/"), "{manifest}");
                let settings = fs::read_to_string(project.join("config/default.toml")).unwrap();
                assert_eq!(settings.contains("\nregister = \"consul\""), discovery == "consul", "{settings}");
                fs::remove_dir_all(project.parent().unwrap()).unwrap();
            }
        }
    }

    #[test]
    fn names_are_spelled_and_refused_as_the_template_says() {
        for (asked, name) in [("hello", "hello"), ("my-svc", "my-svc"), ("svc_2", "svc_2"), ("MyService", "my-service")]
        {
            assert_eq!(super::name(asked, &hook()).unwrap(), name);
        }
        for asked in ["", "7up", "größe", "a.b", "../x", "a b", "Tokio", "serde_json", "test", "fn", "STD", "chassis"]
        {
            assert!(super::name(asked, &hook()).is_err(), "{asked}");
        }
    }

    #[test]
    fn what_is_refused_leaves_nothing() {
        let refused = |folder: &str, change: fn(&mut Answers), part: &str| {
            let why = made(folder, change).unwrap_err().to_string();
            assert!(why.contains(part), "{why}");
            let folder = std::env::temp_dir().join(format!("chassis-new-{}-{folder}", std::process::id()));
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
            fs::remove_dir(folder).unwrap();
        };
        refused("a-template", |answers| answers.template = "web".into(), "there is no template \"web\"");
        refused("a-registry", |answers| answers.discovery = "etcd".into(), "expected none or consul");
        refused("a-path", |answers| answers.chassis = "nowhere".into(), "there is no checkout of the chassis at");
        refused("no-source", |answers| answers.chassis.clear(), "is empty");
        refused("an-address", |answers| answers.chassis = "git@nowhere".into(), "is no address of git");
        refused("a-name", |answers| answers.name = "tokio".into(), "type tokio-service");
        refused("in-the-checkout", |answers| answers.destination = shell::root().join("docs"), "lies in the checkout");
    }

    #[test]
    fn the_chassis_comes_from_where_the_answer_says() {
        let source = |chassis: &str| {
            let answers = Answers { chassis: chassis.to_owned(), ..Answers::new("hello", Path::new("/home/ada")) };
            super::source(&shell::root(), &answers, Path::new("/home/ada/hello")).unwrap()
        };
        assert_eq!(source("0.1.0"), "version = \"0.1.0\"");
        assert_eq!(source("https://host/chassis#v0.1.0"), "git = \"https://host/chassis\", tag = \"v0.1.0\"");
        assert_eq!(source("git@host:org/repo"), "git = \"ssh://git@host/org/repo\"");
        let root = shell::root();
        let beside = root.parent().unwrap().join("hello");
        let name = root.file_name().unwrap().to_str().unwrap();
        assert_eq!(from_project(&root, &beside).unwrap(), format!("../{name}"));
    }

    #[test]
    fn the_command_line_gives_the_answers() {
        let read = |line: &str| {
            let arguments: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            Answers::read(&arguments, Path::new("/home/ada/chassis"))
        };
        assert_eq!(read("hello").unwrap(), Answers::new("hello", Path::new("/home/ada")));
        let all =
            read("hello --template=grpc-service --discovery consul --vcs none --chassis 0.1.0 --destination /srv");
        let expected = Answers {
            template: "grpc-service".into(),
            discovery: "consul".into(),
            chassis: "0.1.0".into(),
            git: false,
            ..Answers::new("hello", Path::new("/srv"))
        };
        assert_eq!(all.unwrap(), expected);
        for wrong in ["", "a b", "a --template", "a --colour red", "a --vcs pijul"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_templates() {
        for template in TEMPLATES {
            let text =
                fs::read_to_string(shell::root().join(format!("templates/{template}/cargo-generate.toml"))).unwrap();
            for default in [DESCRIPTION, "none", "checkout"] {
                assert!(text.contains(&format!("default = \"{default}\"")), "{template}: {default}");
            }
        }
    }
}
