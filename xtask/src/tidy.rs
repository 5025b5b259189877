//! `cargo xtask tidy`: reads the tree and says where it is not as ARCHITECTURE.md and CONTRIBUTING.md promise.

mod book;
mod floors;
mod prose;

use std::fmt;
use std::path::Path;

use crate::{Result, shell};

/// Past this many lines outside tests a file usually holds two subjects.
const LONGEST_FILE: usize = 600;

/// One file of the repository.
#[derive(Debug)]
struct Source {
    /// From the root, with `/`.
    path: String,
    text: String,
}

/// One place that is not as promised.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    /// Counted from 1.
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

pub(crate) fn run() -> Result<()> {
    let sources = read_tree()?;
    let mut findings = findings(&sources, &|path| shell::root().join(path).exists());
    findings.sort_by(|left, right| (&left.path, left.line).cmp(&(&right.path, right.line)));
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("{} files are tidy", sources.len());
        return Ok(());
    }
    Err(format!("{} finding(s); each line above says where and what", findings.len()).into())
}

fn findings(sources: &[Source], exists: &dyn Fn(&str) -> bool) -> Vec<Finding> {
    let mut all = floors::findings(sources);
    for source in sources {
        all.extend(length(source));
        all.extend(prose::forbidden_words(source));
        all.extend(prose::open_ends(source));
        all.extend(prose::dead_paths(source, sources, exists));
        all.extend(lints_inherited(source));
    }
    all.extend(book::pages_not_in_the_summary(sources));
    all.extend(book::dead_anchors(sources));
    all.extend(prose::decisions(sources));
    all.extend(prose::changelog(sources));
    all
}

/// What git tracks or would track, so that build output and caches stay out.
fn read_tree() -> Result<Vec<Source>> {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = String::from_utf8(shell::output(shell::command("git").args(list))?)?;
    // A file that is deleted but not yet committed is still listed; one that is not text has no prose to read.
    let read = |path: &str| {
        let text = std::fs::read_to_string(shell::root().join(path)).ok()?;
        Some(Source { path: path.to_owned(), text })
    };
    Ok(listed.split_terminator('\0').filter_map(read).collect())
}

/// The part before the file's own test module.
fn without_tests(text: &str) -> &str {
    let mut offset = 0;
    let mut attribute = None;
    for line in text.split_inclusive('\n') {
        if line.starts_with("#[cfg(test)]") {
            attribute = Some(offset);
        } else if line.trim_start_matches("pub(crate) ").starts_with("mod ") && line.trim_end().ends_with('{') {
            if let Some(start) = attribute {
                return &text[..start];
            }
        } else if !line.starts_with("#[") {
            attribute = None;
        }
        offset += line.len();
    }
    text
}

/// Test folders and test files: anything goes there but what the compiler forbids.
fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || Path::new(path).components().any(|part| part.as_os_str() == "tests")
}

fn length(source: &Source) -> Option<Finding> {
    if !source.path.ends_with(".rs") || is_test(&source.path) || source.path.contains("/generated") {
        return None;
    }
    let lines = without_tests(&source.text).lines().count();
    (lines > LONGEST_FILE).then(|| {
        let message = format!("{lines} lines outside tests, expected at most {LONGEST_FILE}; are there two subjects?");
        Finding::new(&source.path, LONGEST_FILE + 1, message)
    })
}

/// A crate without this table is checked by no lint.
fn lints_inherited(source: &Source) -> Option<Finding> {
    let is_member = source.path.ends_with("/Cargo.toml") && !source.path.starts_with("templates/");
    (is_member && !source.text.contains("[lints]\nworkspace = true"))
        .then(|| Finding::new(&source.path, 1, "the workspace's lints are not inherited; add [lints] workspace = true"))
}

#[cfg(test)]
mod tests {
    use super::{Source, length, lints_inherited, without_tests};

    fn source(path: &str, text: String) -> Source {
        Source { path: path.to_owned(), text }
    }

    #[test]
    fn test_module_is_not_counted() {
        let code = "fn a() {}\n".repeat(600);
        let tests = format!("{code}#[cfg(test)]\n#[allow(clippy::unwrap_used)]\nmod tests {{\n{code}}}\n");
        assert_eq!(without_tests(&tests), code);
        assert_eq!(length(&source("chassis/src/a.rs", tests)), None);
        let shared = format!("{code}#[cfg(test)]\npub(crate) mod tests {{\n{code}}}\n");
        assert_eq!(without_tests(&shared), code);
    }

    #[test]
    fn testing_item_in_the_middle_does_not_end_the_code() {
        let text = "#[cfg(test)]\nfn helper() {}\nmod real {\n}\n";
        assert_eq!(without_tests(text), text);
    }

    #[test]
    fn long_file_is_found_unless_generated_or_a_test() {
        let long = "fn a() {}\n".repeat(601);
        assert!(length(&source("chassis/src/a.rs", long.clone())).is_some());
        assert_eq!(length(&source("chassis/src/health/generated.rs", long.clone())), None);
        assert_eq!(length(&source("chassis/src/health/tests.rs", long.clone())), None);
        assert_eq!(length(&source("tests/it/http.rs", long)), None);
    }

    #[test]
    fn crate_without_the_lints_is_found() {
        assert!(lints_inherited(&source("a/Cargo.toml", "[package]\n".into())).is_some());
        assert_eq!(lints_inherited(&source("a/Cargo.toml", "[lints]\nworkspace = true\n".into())), None);
        assert_eq!(lints_inherited(&source("Cargo.toml", "[workspace]\n".into())), None);
    }
}
