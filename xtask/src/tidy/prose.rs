//! Documents and comments: paths that exist, words that must not be there, records without gaps.

use super::{Finding, Source};

/// Hosts of registries and paths of one machine: the tree must build wherever it is cloned. Written in two halves, so
/// that this file does not find itself.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("crates", ".io"), "names a registry's host"),
    (concat!("pypi", ".org"), "names a registry's host"),
    (concat!("python", "hosted.org"), "names a registry's host"),
    (concat!("registry.npm", "js.org"), "names a registry's host"),
    (concat!("deb.deb", "ian.org"), "names a registry's host"),
    (concat!("/wo", "rk/"), "names a path of one machine"),
    (concat!("/ro", "ot/"), "names a path of one machine"),
];

pub(super) fn forbidden_words(source: &Source) -> Vec<Finding> {
    // Cargo writes the registry's address into every lock file.
    if ["Cargo.lock", "Cargo.lock.liquid"].iter().any(|name| source.path.ends_with(name)) {
        return Vec::new();
    }
    each_line(source, |line| {
        let found = FORBIDDEN.iter().find(|(word, _)| line.contains(word));
        found.map(|(word, why)| format!("found `{word}`: {why}"))
    })
}

/// A note about later must say what ends it, or it stays for ever.
pub(super) fn open_ends(source: &Source) -> Vec<Finding> {
    const NOTES: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];
    const CONDITIONS: [&str; 4] = ["when ", "once ", "until ", "after "];
    each_line(source, |line| {
        let note = NOTES.iter().find_map(|note| line.find(note))?;
        let has_condition = CONDITIONS.iter().any(|word| line[note..].contains(word));
        (!has_condition).then(|| "the note names no condition that ends it (when, once, until, after)".to_owned())
    })
}

fn each_line(source: &Source, check: impl Fn(&str) -> Option<String>) -> Vec<Finding> {
    let lines = source.text.lines().enumerate();
    lines.filter_map(|(index, line)| Some(Finding::new(&source.path, index + 1, check(line)?))).collect()
}

/// Where a path of a document may begin: pages speak of the crates' own files, and of those of a generated project.
const ROOTS: [&str; 4] = ["", "chassis/src", "chassis-macros/src", "templates/http-service"];

/// Relative links of every document; the files of Rust in backticks; and in documents that map the code every path.
pub(super) fn dead_paths(source: &Source, all: &[Source], exists: &dyn Fn(&str) -> bool) -> Vec<Finding> {
    if !source.path.ends_with(".md") || source.path.starts_with("templates/") {
        return Vec::new();
    }
    let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let is_map = ["ARCHITECTURE.md", "README.md", "CONTRIBUTING.md"].contains(&source.path.as_str());
    // `layer.rs` alone means every file of that name.
    let known = |path: &str| {
        ROOTS.iter().chain([&folder]).any(|base| exists(&join(base, path)))
            || !path.contains('/') && all.iter().any(|other| other.path.ends_with(&format!("/{path}")))
    };
    let mut findings = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        let links = between(line, "](", ")").filter(|link| !link.contains(':') && !link.starts_with('#'));
        for link in links.map(|link| link.split('#').next().unwrap_or(link)) {
            if !exists(&join(folder, link)) {
                findings.push(Finding::new(&source.path, index + 1, format!("link to `{link}`, which does not exist")));
            }
        }
        let named = between(line, "`", "`").filter(|text| looks_like_path(text));
        for path in named.filter(|path| is_map || path.ends_with(".rs")) {
            if !known(path) {
                findings.push(Finding::new(&source.path, index + 1, format!("names `{path}`, which does not exist")));
            }
        }
    }
    findings
}

/// Pieces of a line that stand between two marks, each pair used once.
pub(super) fn between<'a>(line: &'a str, open: &'static str, close: &'static str) -> impl Iterator<Item = &'a str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let start = rest.find(open)? + open.len();
        let length = rest[start..].find(close)?;
        let piece = &rest[start..start + length];
        rest = &rest[start + length + close.len()..];
        Some(piece)
    })
}

/// `chassis/src/stack/`, `error.rs`; not a route (`/livez`), a type, a command, a pattern or a gRPC method.
fn looks_like_path(text: &str) -> bool {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    // `.proto` alone is a kind of file.
    let extensions = [".rs", ".md", ".toml", ".proto", ".yml"];
    let file = extensions.iter().any(|extension| text.ends_with(extension) && text != *extension);
    let service = text.split('/').next().is_some_and(|first| first.contains('.') && !first.starts_with('.'));
    // What a run leaves behind is not in the tree.
    let output = text.starts_with("target/") || text.starts_with(".cache");
    let media_type = text.starts_with("application/") || text.starts_with("text/");
    plain && !text.starts_with('/') && !output && !media_type && (file || text.contains('/') && !service)
}

/// `folder/link` with `..` resolved.
pub(super) fn join(folder: &str, link: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// `docs/decisions/NNNN-title.md` count from 0001 without gaps or doubles.
pub(super) fn decisions(sources: &[Source]) -> Vec<Finding> {
    const FOLDER: &str = "docs/decisions/";
    let mut paths: Vec<&str> =
        sources.iter().map(|s| s.path.as_str()).filter(|path| path.starts_with(FOLDER)).collect();
    paths.sort_unstable();
    let mut findings = Vec::new();
    for (index, path) in paths.into_iter().enumerate() {
        let expected = format!("{FOLDER}{:04}-", index + 1);
        if !path.starts_with(&expected) {
            findings.push(Finding::new(path, 1, format!("expected the next decision record to begin with {expected}")));
        }
    }
    findings
}

/// Users read what changed for them before they raise the version.
pub(super) fn changelog(sources: &[Source]) -> Option<Finding> {
    let path = "CHANGELOG.md";
    let text = sources.iter().find(|source| source.path == path).map_or("", |source| &source.text);
    let unreleased = |line: &str| line.starts_with("## ") && line.contains("Unreleased");
    (!text.lines().any(unreleased)).then(|| Finding::new(path, 1, "has no section `## Unreleased`"))
}

#[cfg(test)]
mod tests {
    use super::{
        FORBIDDEN, between, changelog, dead_paths, decisions, forbidden_words, join, looks_like_path, open_ends,
    };
    use crate::tidy::Source;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn registry_hosts_and_machine_paths_are_found() {
        for (word, _) in FORBIDDEN {
            let text = format!("first\nsee {word}x\n");
            let found = forbidden_words(&source("a.md", &text));
            assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [2], "{word}");
            assert_eq!(forbidden_words(&source("Cargo.lock", &text)), []);
        }
    }

    #[test]
    fn note_needs_a_condition() {
        let note = concat!("// TO", "DO");
        assert_eq!(open_ends(&source("a.rs", &format!("{note}: better"))).len(), 1);
        assert_eq!(open_ends(&source("a.rs", &format!("{note}: drop it when axum 0.9 is out"))), []);
    }

    #[test]
    fn paths_are_told_from_routes_types_and_commands() {
        for path in ["chassis/src/stack/", "error.rs", "docs/how-to/operating.md", ".ci/run", ".cargo/config.toml"] {
            assert!(looks_like_path(path), "{path}");
        }
        let others = [
            "/livez",
            "GET /orders/{id}",
            "Chassis",
            ".proto",
            "cargo xtask",
            "orders.v1.Orders/GetOrder",
            "a::b",
            "application/json",
        ];
        for other in others {
            assert!(!looks_like_path(other), "{other}");
        }
    }

    #[test]
    fn dead_paths_of_a_map_are_found() {
        let exists = |path: &str| ["chassis/src/error.rs", "docs/how-to/operating.md"].contains(&path);
        let all = [source("chassis/src/observe/layer.rs", "")];
        let check = |path: &str, text: &str| dead_paths(&source(path, text), &all, &exists).len();
        assert_eq!(check("ARCHITECTURE.md", "`error.rs`, `layer.rs` and `chassis/src/error.rs`"), 0);
        assert_eq!(check("ARCHITECTURE.md", "`gone.rs` [guide](docs/how-to/operating.md#top) [gone](docs/gone.md)"), 2);
        assert_eq!(
            check(
                "docs/how-to/a.md",
                "`gone/` `error.rs` [guide](operating.md) [up](../how-to/operating.md) [web](x:y)"
            ),
            0
        );
        assert_eq!(check("docs/how-to/a.md", "`gone.rs` and `server/gone.rs`"), 2);
        assert_eq!(check("docs/a.md", "[guide](docs/how-to/operating.md)"), 1);
    }

    #[test]
    fn decision_records_count_without_gaps() {
        let records = |names: &[&str]| {
            decisions(&names.iter().map(|name| source(&format!("docs/decisions/{name}"), "")).collect::<Vec<_>>()).len()
        };
        assert_eq!(records(&["0001-a.md", "0002-b.md"]), 0);
        assert_eq!(records(&["0001-a.md", "0003-b.md"]), 1);
        assert_eq!(records(&["0001-a.md", "0001-b.md"]), 1);
    }

    #[test]
    fn changelog_tells_what_is_unreleased() {
        assert!(changelog(&[]).is_some());
        assert!(changelog(&[source("CHANGELOG.md", "# Changelog\n")]).is_some());
        assert_eq!(changelog(&[source("CHANGELOG.md", "## [Unreleased]\n")]), None);
    }

    #[test]
    fn pieces_and_joins() {
        assert_eq!(between("a `b` c `d`", "`", "`").collect::<Vec<_>>(), ["b", "d"]);
        assert_eq!(join("docs/decisions", "../how-to/operating.md"), "docs/how-to/operating.md");
    }
}
