//! Who leans on whom in `chassis/src`: an arrow goes down a floor or stays in its own folder.
//!
//! The arrows are the `crate::…` paths in `use` lines and in code; test modules are left out. A bend that has a reason
//! carries it on the same line or the one before: `// floor: why`.

use std::collections::BTreeMap;

use super::{Finding, Source, is_test, without_tests};

const CRATE: &str = "chassis/src/";
const VOCABULARY: u8 = 0;
const TOP: u8 = 4;

/// Module to floor; the longest entry that fits a file wins. A folder's entry is the floor of its face (`mod.rs`) and of
/// the files that no other entry or role places.
const FLOORS: &[(&str, u8)] = &[
    // 4: gathers and runs things.
    ("lib", TOP),
    ("__private", TOP),
    ("chassis", TOP),
    ("cli", TOP),
    ("openapi", TOP),
    ("prelude", TOP),
    ("server", TOP),
    ("settings", TOP),
    ("testing", TOP),
    // 3: the only places that know the order, and all parts at once.
    ("coherence", 3),
    ("stack", 3),
    // 2: touches tower, files, tasks or the network.
    ("body_limit", 2),
    ("cache", 2),
    ("catch_panic", 2),
    ("client", 2),
    ("consul", 2),
    ("config/reload", 2),
    ("config/source", 2),
    ("deadline", 2),
    ("drain", 2),
    ("discovery/dns", 2),
    ("discovery/memory", 2),
    ("discovery/registration", 2),
    ("discovery/static_list", 2),
    ("fallback", 2),
    ("grpc_only", 2),
    ("host", 2),
    ("observe", 2),
    ("route", 2),
    ("service", 2),
    ("tasks", 2),
    ("telemetry/otlp", 2),
    ("telemetry/provider", 2),
    // 1: pure decisions and values, and the outlets that every concern may use.
    ("discovery", 1),
    ("health", 1),
    ("leader", 1),
    ("server/address", 1),
    ("reject", 1),
    ("telemetry", 1),
    ("tls", 1),
    // 0: the vocabulary.
    ("cause", VOCABULARY),
    ("clock", VOCABULARY),
    ("config", VOCABULARY),
    ("context", VOCABULARY),
    ("endpoint", VOCABULARY),
    ("error", VOCABULARY),
    ("identity", VOCABULARY),
    ("lever", VOCABULARY),
    ("media", VOCABULARY),
    ("problem", VOCABULARY),
    ("shutdown", VOCABULARY),
    ("telemetry/names", VOCABULARY),
    ("telemetry/propagation", VOCABULARY),
];

/// What a file's name says of its floor, inside a concern's folder.
const ROLES: &[(&str, u8)] = &[("config", 1), ("state", 1), ("registry", 1), ("layer", 2), ("http", 2), ("grpc", 2)];

pub(super) fn findings(sources: &[Source]) -> Vec<Finding> {
    let modules: BTreeMap<String, &Source> =
        sources.iter().filter_map(|source| Some((module(&source.path)?, source))).collect();
    let mut findings = Vec::new();
    for (name, source) in &modules {
        let Some(floor) = floor(name) else {
            let message = format!("module `{name}` has no floor; give it one in xtask/src/tidy/floors.rs");
            findings.push(Finding::new(&source.path, 1, message));
            continue;
        };
        let code = without_tests(&source.text);
        for arrow in arrows(code) {
            let target = nearest_module(&arrow.path, &modules);
            let Some(above) =
                self::floor(&target).filter(|target_floor| !may_lean(name, floor, &target, *target_floor))
            else {
                continue;
            };
            if has_reason(code, arrow.line) {
                continue;
            }
            let path = arrow.path.join("::");
            let message = format!(
                "`crate::{path}` leans from floor {floor} ({name}) on floor {above} ({target}); \
                 move what both need down, or give a reason: // floor: …"
            );
            findings.push(Finding::new(&source.path, arrow.line, message));
        }
    }
    findings
}

/// `chassis/src/health/http.rs` is module `health/http`; a folder's `mod.rs` is the folder.
fn module(path: &str) -> Option<String> {
    let inside = path.strip_prefix(CRATE)?.strip_suffix(".rs")?;
    (!is_test(path)).then(|| inside.strip_suffix("/mod").unwrap_or(inside).to_owned())
}

fn floor(module: &str) -> Option<u8> {
    let fits = |entry: &str| module.strip_prefix(entry).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let (entry, floor) = FLOORS.iter().filter(|(entry, _)| fits(entry)).max_by_key(|(entry, _)| entry.len())?;
    let file = module[entry.len()..].rsplit('/').next().unwrap_or_default();
    // Settings are values wherever they lie; a server's or a stack's other files stay with it.
    let role = ROLES.iter().find(|(role, _)| *role == file && (*floor < 3 || file == "config"));
    Some(role.map_or(*floor, |(_, floor)| *floor))
}

/// Down, or inside one folder. The vocabulary is one room, and so is the top floor.
fn may_lean(from: &str, from_floor: u8, to: &str, to_floor: u8) -> bool {
    let folder = |module: &str| module.split('/').next().unwrap_or_default().to_owned();
    let one_room = from_floor == to_floor && [VOCABULARY, TOP].contains(&from_floor);
    to_floor < from_floor || folder(from) == folder(to) || one_room
}

fn nearest_module(path: &[String], modules: &BTreeMap<String, &Source>) -> String {
    let candidates = (1..=path.len()).rev().map(|length| path[..length].join("/"));
    // What only lib.rs has is a name for users: the crate's own code says where it lives.
    candidates.into_iter().find(|candidate| modules.contains_key(candidate)).unwrap_or_else(|| "lib".to_owned())
}

fn has_reason(code: &str, line: usize) -> bool {
    let mut around = code.lines().skip(line.saturating_sub(2)).take(if line > 1 { 2 } else { 1 });
    around.any(|line| line.split_once("// floor:").is_some_and(|(_, reason)| !reason.trim().is_empty()))
}

/// One `crate::a::b` with its line.
#[derive(Debug, PartialEq, Eq)]
struct Arrow {
    line: usize,
    path: Vec<String>,
}

fn arrows(code: &str) -> Vec<Arrow> {
    let code = blank_comments_and_strings(code);
    let mut arrows = Vec::new();
    for (start, found) in code.match_indices("crate::") {
        let before = code[..start].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let line = code[..start].matches('\n').count() + 1;
        tree(&code[start + found.len()..], line, &[], &mut arrows);
    }
    arrows
}

/// Reads one use tree (`a::{b, c::d}`) and gives what follows it and the line reached.
fn tree<'a>(mut rest: &'a str, mut line: usize, prefix: &[String], arrows: &mut Vec<Arrow>) -> (&'a str, usize) {
    let mut path = prefix.to_vec();
    loop {
        (rest, line) = skip_space(rest, line);
        if let Some(mut inner) = rest.strip_prefix('{') {
            loop {
                (inner, line) = skip_space(inner, line);
                if inner.is_empty() {
                    return (inner, line);
                }
                if let Some(after) = inner.strip_prefix('}') {
                    return (after, line);
                }
                if let Some(after) = inner.strip_prefix(',') {
                    inner = after;
                    continue;
                }
                let before = inner.len();
                (inner, line) = tree(inner, line, &path, arrows);
                if inner.len() == before {
                    // Not a use tree after all.
                    return (inner, line);
                }
            }
        }
        let length = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        if length > 0 {
            path.push(rest[..length].to_owned());
            rest = &rest[length..];
        } else if let Some(after) = rest.strip_prefix('*') {
            rest = after;
        }
        if let Some(after) = rest.strip_prefix("::") {
            rest = after;
            continue;
        }
        if !path.is_empty() {
            arrows.push(Arrow { line, path });
        }
        if let Some(alias) = rest.trim_start().strip_prefix("as ") {
            rest = alias.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
        }
        return (rest, line);
    }
}

fn skip_space(text: &str, line: usize) -> (&str, usize) {
    let rest = text.trim_start();
    (rest, line + text[..text.len() - rest.len()].matches('\n').count())
}

/// Comments and string literals become spaces, lines stay where they are.
fn blank_comments_and_strings(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => string_length(rest),
            'r' if rest.starts_with("r\"") => rest[2..].find('"').map_or(rest.len(), |end| end + 3),
            'r' if rest.starts_with("r#\"") => rest.find("\"#").map_or(rest.len(), |end| end + 2),
            // The one character literal that would open a string.
            '\'' if rest.starts_with("'\"'") => 3,
            _ => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
                continue;
            }
        };
        out.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &rest[length..];
    }
    out
}

/// From the opening quote to behind the closing one.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (index, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::{Arrow, arrows, findings, floor, module};
    use crate::tidy::Source;

    fn paths(code: &str) -> Vec<(usize, String)> {
        arrows(code).into_iter().map(|Arrow { line, path }| (line, path.join("::"))).collect()
    }

    /// Lines of findings when `path` holds `code` beside one file of each kind.
    fn check(path: &str, code: &str) -> Vec<usize> {
        let others =
            ["lib.rs", "error.rs", "cause.rs", "config/mod.rs", "config/units.rs", "health/mod.rs", "health/http.rs"]
                .into_iter()
                .chain([
                    "health/config.rs",
                    "observe/layer.rs",
                    "stack/mod.rs",
                    "chassis.rs",
                    "telemetry/mod.rs",
                    "settings.rs",
                ]);
        let others = others.map(|other| format!("chassis/src/{other}")).filter(|other| other != path);
        let mut sources: Vec<Source> = others.map(|path| Source { path, text: String::new() }).collect();
        sources.push(Source { path: path.to_owned(), text: code.to_owned() });
        findings(&sources).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn use_trees_are_taken_apart() {
        let code = "use crate::{\n    error::BoxError,\n    health::{self, http::{A, B as C}},\n};\n";
        let expected = ["error::BoxError", "health::self", "health::http::A", "health::http::B"];
        assert_eq!(paths(code).iter().map(|(_, path)| path.as_str()).collect::<Vec<_>>(), expected);
        assert_eq!(paths(code)[0].0, 2);
        assert_eq!(paths("use crate::prelude::*;"), [(1, "prelude".to_owned())]);
    }

    #[test]
    fn inline_paths_count_and_comments_do_not() {
        let code = "/// [`crate::stack`]\nfn f() { let s = \"crate::server\"; crate::error::f::<u8>(); }\n";
        assert_eq!(paths(code), [(2, "error::f".to_owned())]);
    }

    #[test]
    fn roles_place_a_file_on_its_floor() {
        let floor_of = |path: &str| floor(&module(path).expect("a path inside the crate"));
        assert_eq!(floor_of("chassis/src/deadline/config.rs"), Some(1));
        assert_eq!(floor_of("chassis/src/health/http.rs"), Some(2));
        assert_eq!(floor_of("chassis/src/health/mod.rs"), Some(1));
        assert_eq!(floor_of("chassis/src/server/http.rs"), Some(4));
        assert_eq!(floor_of("chassis/src/server/config.rs"), Some(1));
        assert_eq!(floor_of("chassis/src/config/units.rs"), Some(0));
        assert_eq!(floor_of("chassis/src/nowhere.rs"), None);
    }

    #[test]
    fn arrows_go_down_or_stay_in_the_folder() {
        assert_eq!(check("chassis/src/stack/mod.rs", "use crate::observe::layer::A;"), []);
        assert_eq!(check("chassis/src/health/mod.rs", "use crate::health::http::A;"), []);
        assert_eq!(check("chassis/src/error.rs", "use crate::cause::Cause;"), []);
        assert_eq!(check("chassis/src/chassis.rs", "use crate::settings::Settings;"), []);
        assert_eq!(check("chassis/src/observe/layer.rs", "use crate::{config::Duration, telemetry::Log};"), []);
    }

    #[test]
    fn arrow_up_or_to_a_neighbour_is_found() {
        assert_eq!(check("chassis/src/error.rs", "\nuse crate::health::Registry;"), [2]);
        assert_eq!(check("chassis/src/health/http.rs", "use crate::observe::layer::A;"), [1]);
        assert_eq!(check("chassis/src/health/config.rs", "use crate::settings::Settings;"), [1]);
        assert_eq!(check("chassis/src/health/mod.rs", "use crate::BoxError;"), [1]);
    }

    #[test]
    fn bend_with_a_reason_is_fine_and_without_one_is_not() {
        let path = "chassis/src/error.rs";
        assert_eq!(check(path, "// floor: the error prints the state\nuse crate::health::Registry;"), []);
        assert_eq!(check(path, "use crate::health::Registry; // floor: prints the state"), []);
        assert_eq!(check(path, "// floor:\nuse crate::health::Registry;"), [2]);
    }

    #[test]
    fn tests_may_lean_on_anything() {
        let code = "#[cfg(test)]\nmod tests {\n    use crate::chassis::Chassis;\n}\n";
        assert_eq!(check("chassis/src/error.rs", code), []);
    }

    #[test]
    fn module_without_a_floor_is_found() {
        assert_eq!(check("chassis/src/nowhere.rs", ""), [1]);
    }
}
