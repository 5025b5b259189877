//! Environment variables and `--set` as layers. Values stay the text they are; the schema decides their type later, so
//! that a text key fed `00123` or `true` keeps it.

use std::collections::BTreeMap;

use figment::value::{Dict, Tag, Value};

use super::{
    error::{ConfigProblem, Origin},
    explain, links,
    near::nearest,
    schema::{Kind, Node},
    source::{Layer, PROFILE_VARIABLE, Sources, toml_value},
};

/// What the service's own variables begin with.
pub(super) const PREFIX: &str = "CHASSIS_";
/// What stands between two levels of a key; one underscore is a part of a name.
pub(super) const SEPARATOR: &str = "__";
/// What the variable of a secret ends with when it names a file; as the images of databases have it.
const FILE_SUFFIX: &str = "_file";

/// The variable that sets a key.
pub(crate) fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', SEPARATOR).replace('-', "_").to_uppercase())
}

/// The variable that names the file of a secret.
pub(crate) fn file_variable(path: &str) -> String {
    format!("{}{}", variable(path), FILE_SUFFIX.to_uppercase())
}

/// The layer of the standard variables.
pub(crate) fn standard(sources: &Sources, root: &Node, problems: &mut Vec<ConfigProblem>) -> Layer {
    let mut layer = Layer::new(Origin::Environment("variables".into()));
    for (name, key) in &sources.standard {
        if let Some(text) = sources.variable(name).filter(|text| !text.is_empty()) {
            let (path, origin) =
                (|key: &str| key.split('.').map(str::to_owned).collect::<Vec<_>>(), Origin::Environment(name.clone()));
            match key.rsplit_once('.') {
                Some((secret, from)) if root.find(secret).is_some_and(|node| matches!(node.kind, Kind::Secret)) => {
                    let text = Value::String(Tag::Default, text.to_owned());
                    layer.set(&path(secret), Value::Dict(Tag::Default, Dict::from([(from.to_owned(), text)])), origin);
                }
                _ => insert(&mut layer, root, &path(key), text, name, origin, problems),
            }
        }
    }
    layer
}

/// The layer of the variables with our prefix. Service links of Kubernetes are left out, with one note.
pub(crate) fn prefixed(
    sources: &Sources,
    root: &Node,
    problems: &mut Vec<ConfigProblem>,
    notes: &mut Vec<String>,
) -> Layer {
    let mut layer = Layer::new(Origin::Environment(format!("{PREFIX}…")));
    let mut variables: Vec<_> = sources.env.iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    // A table's own variable comes before those of its keys, whatever the order of the environment.
    variables.sort();
    let mut links = Vec::new();
    // The secrets that a variable gives, and the first one that does.
    let mut secrets: BTreeMap<String, &str> = BTreeMap::new();
    for (name, text) in variables {
        if name == PROFILE_VARIABLE || sources.not_keys.contains(name) {
            continue;
        }
        let parts: Vec<_> = name[PREFIX.len()..].split(SEPARATOR).map(str::to_lowercase).collect();
        let origin = Origin::Environment(name.clone());
        let secret_file = secret_file(root, &parts);
        let found = match &secret_file {
            Some(path) => Ok(path.clone()),
            None => resolve(root, &parts),
        };
        match found {
            Ok(path) => {
                if let Some(secret) = secret_of(root, &path) {
                    let from_elsewhere = secret_file.is_some() || secret != path.join(".");
                    // Containers pass variables that are not set on as empty ones.
                    if text.is_empty() && (from_elsewhere || secrets.contains_key(&secret)) {
                        continue;
                    }
                    let first = if text.is_empty() { None } else { secrets.insert(secret, name) };
                    if let Some(first) = first {
                        let message =
                            format!("found beside {first}, which gives the same secret; unset one of the two");
                        problems.push(ConfigProblem::new(name, message, Some(origin)));
                        continue;
                    }
                }
                match secret_file {
                    Some(_) => layer.set(&path, from_file(text), origin),
                    None => insert(&mut layer, root, &path, text, name, origin, problems),
                }
            }
            Err(_) if links::service(name, text).is_some() => links.extend(links::service(name, text)),
            Err(astray) => {
                // A table cannot be set as a whole, so its name helps only on the way to a key.
                let settable = |path: &&String| match root.find(path).map(|node| &node.kind) {
                    Some(Kind::Table(table)) => table.rest.is_some(),
                    _ => true,
                };
                let known = explain::paths(root);
                let paths: Vec<_> = astray.known.iter().chain(&known).filter(settable).collect();
                let mut candidates: Vec<String> = paths.iter().map(|path| variable(path)).collect();
                let secrets = paths.iter().filter(|path| root.find(path).is_some_and(Node::is_secret));
                candidates.extend(secrets.map(|path| file_variable(path)));
                candidates.extend(sources.not_keys.iter().cloned());
                candidates.push(PROFILE_VARIABLE.into());
                let leaf = astray.leaf.map(|path| variable(&path));
                let otherwise = "unset it, or see the variables with `config print --default`";
                problems.push(unknown(name, None, leaf, &candidates, otherwise));
            }
        }
    }
    if !links.is_empty() {
        links.sort_unstable();
        links.dedup();
        notes.push(links::note(&links));
    }
    layer
}

/// The secret that `<VARIABLE>_FILE` names the file of. A key of that very name goes first, unless it may be any.
fn secret_file(root: &Node, parts: &[String]) -> Option<Vec<String>> {
    let (last, tables) = parts.split_last()?;
    let mut bare = tables.to_vec();
    bare.push(last.strip_suffix(FILE_SUFFIX)?.to_owned());
    let path = resolve(root, &bare).ok()?;
    if secret_of(root, &path) != Some(path.join(".")) {
        return None;
    }
    let table = root.find(&path[..path.len() - 1].join("."));
    let is_key = table.is_some_and(|table| table.names().iter().any(|name| same(name, last)));
    (!is_key).then_some(path)
}

/// The secret that a path gives: its own, or that whose `file` or `env` it is.
fn secret_of(root: &Node, path: &[String]) -> Option<String> {
    (0..path.len()).map(|parts| path[..=parts].join(".")).find(|path| root.find(path).is_some_and(Node::is_secret))
}

/// `{ file = "…" }`.
fn from_file(path: &str) -> Value {
    let path = Value::String(Tag::Default, path.to_owned());
    Value::Dict(Tag::Default, Dict::from([("file".to_owned(), path)]))
}

/// The layer of `--set key=value`.
pub(crate) fn command_line(set: &[String], root: &Node, problems: &mut Vec<ConfigProblem>) -> Layer {
    let mut layer = Layer::new(Origin::CommandLine("key".into()));
    for pair in set {
        let Some((key, text)) = pair.split_once('=') else {
            // No more than the key: what follows it may be a secret.
            let key: String = pair.chars().take_while(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).collect();
            problems.push(ConfigProblem::new(format!("--set {key}"), "found no =, expected key=value", None));
            continue;
        };
        let (key, origin) = (key.trim(), Origin::CommandLine(key.trim().to_owned()));
        match resolve(root, &key.split('.').map(str::to_owned).collect::<Vec<_>>()) {
            Ok(path) => insert(&mut layer, root, &path, text, key, origin, problems),
            Err(astray) => {
                let candidates = [astray.known, explain::paths(root)].concat();
                let otherwise = "see the keys with `config print --default`";
                problems.push(unknown(key, Some(origin), astray.leaf, &candidates, otherwise));
            }
        }
    }
    layer
}

/// Puts one text of a store under its key; `key` is dotted.
pub(crate) fn set_text(
    layer: &mut Layer,
    root: &Node,
    key: &str,
    text: &str,
    origin: Origin,
    problems: &mut Vec<ConfigProblem>,
) {
    match resolve(root, &key.split('.').map(str::to_owned).collect::<Vec<_>>()) {
        Ok(path) => insert(layer, root, &path, text, key, origin, problems),
        Err(astray) => {
            let candidates = [astray.known, explain::paths(root)].concat();
            let otherwise = "delete it, or see the keys with `config print --default`";
            problems.push(unknown(key, Some(origin), astray.leaf, &candidates, otherwise));
        }
    }
}

/// `leaf` is the key whose value the name goes on behind.
fn unknown(
    name: &str,
    origin: Option<Origin>,
    leaf: Option<String>,
    candidates: &[String],
    otherwise: &str,
) -> ConfigProblem {
    let near = leaf.or_else(|| nearest(name, candidates.iter().map(String::as_str)).map(str::to_owned));
    let message = match near {
        Some(near) => format!("unknown; did you mean {near}?"),
        None => format!("unknown; {otherwise}"),
    };
    ConfigProblem::new(name, message, origin)
}

/// Where a name left the schema.
struct Astray {
    /// The paths that are known there.
    known: Vec<String>,
    /// The key that has no keys below it.
    leaf: Option<String>,
}

/// Upper and lower case, and `-` and `_`, are the same.
fn same(a: &str, b: &str) -> bool {
    a.replace('-', "_").eq_ignore_ascii_case(&b.replace('-', "_"))
}

/// The path as the schema writes it.
fn resolve(root: &Node, parts: &[String]) -> Result<Vec<String>, Astray> {
    let mut path: Vec<String> = Vec::new();
    let mut node = root;
    for part in parts {
        let known = node.names();
        let name = known.iter().copied().find(|name| same(name, part)).unwrap_or(part);
        match node.child(name).filter(|_| !name.is_empty() && !matches!(node.kind, Kind::List(_))) {
            Some(child) => node = child,
            None if path.is_empty() => {
                return Err(Astray { known: known.into_iter().map(str::to_owned).collect(), leaf: None });
            }
            None if known.is_empty() => return Err(Astray { known: Vec::new(), leaf: Some(path.join(".")) }),
            None => {
                let known = known.into_iter().map(|name| format!("{}.{name}", path.join("."))).collect();
                return Err(Astray { known, leaf: None });
            }
        }
        path.push(name.to_owned());
    }
    Ok(path)
}

/// Puts the text into the layer. A table of free keys may be written as an inline table, so that it merges with the
/// layers below.
fn insert(
    layer: &mut Layer,
    root: &Node,
    path: &[String],
    text: &str,
    name: &str,
    origin: Origin,
    problems: &mut Vec<ConfigProblem>,
) {
    let mut value = Value::String(Tag::Default, text.to_owned());
    if let Some(Kind::Table(table)) = root.find(&path.join(".")).map(|node| &node.kind) {
        let inline = Some(()).filter(|()| table.rest.is_some()).and_then(|()| toml_value(text));
        match inline {
            Some(inline @ Value::Dict(..)) => value = inline,
            _ => {
                let message = match table.fields.first() {
                    Some(field) => {
                        let key = format!("{}.{}", path.join("."), field.name);
                        let key = match &origin {
                            Origin::Environment(_) => variable(&key),
                            _ => key,
                        };
                        format!("is a table; set its keys, such as {key}")
                    }
                    None => "is a table, expected { key = value }".to_owned(),
                };
                problems.push(ConfigProblem::new(name, message, Some(origin)));
                return;
            }
        }
    }
    layer.set(path, value, origin);
}
